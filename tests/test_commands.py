"""What every command does with an error that its user can mend."""

import pytest

from datasets.catalog import DataError
from utils.commands import errors_in_one_line


def command(raised: Exception | None, *kinds: type[Exception]):
    @errors_in_one_line(*kinds)
    def main(argv=None):
        """What it is for."""
        if raised:
            raise raised
        return 7

    return main


@pytest.mark.parametrize(("raised", "kinds"), [(DataError("a.csv: is empty"), ()), (KeyError("a"), (KeyError,))])
def test_an_error_of_the_user_is_one_line_and_exit_code_1(raised, kinds, capsys):
    assert command(raised, *kinds)() == 1
    said = capsys.readouterr()
    assert said.err == f"error: {raised}\n" and not said.out


def test_a_fault_of_ours_keeps_its_traceback_and_success_its_exit_code():
    with pytest.raises(ZeroDivisionError):
        command(ZeroDivisionError())()
    assert command(None)() == 7 and command(None).__doc__ == "What it is for."
