"""What commands share: their note, and that an error which the user can mend ends in one line, with exit code 1."""

import functools
import sys
from collections.abc import Callable, Sequence

from datasets.catalog import DataError

NOTE = "Trained for research and teaching. Not a medical device."


def errors_in_one_line(*kinds: type[Exception]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorates a command's `main(argv=None)`: a `DataError`, or one of `kinds`, is printed behind "error:"."""

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def guarded(argv: Sequence[str] | None = None, **how: object) -> int:
            try:
                return main(argv, **how)
            except (DataError, *kinds) as error:
                print(f"error: {error}", file=sys.stderr)
                return 1

        return guarded

    return decorate


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows as an aligned text table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
