"""What every command does with an error that its user can mend."""

import pytest

from datasets.catalog import DataError
from utils.commands import errors_in_one_line


@pytest.mark.parametrize(("raised", "kinds"), [(DataError("a.csv: is empty"), ()), (KeyError("a"), (KeyError,))])
def test_an_error_of_the_user_is_one_line_and_a_fault_of_ours_keeps_its_traceback(raised, kinds, capsys):
    @errors_in_one_line(*kinds)
    def main(error=None):
        """What it is for."""
        if error:
            raise error
        return 7

    assert main() == 7 and main.__doc__ == "What it is for."
    assert main(raised) == 1
    said = capsys.readouterr()
    assert said.err == f"error: {raised}\n" and not said.out
    with pytest.raises(ZeroDivisionError):
        main(ZeroDivisionError())
