"""What commands share: their note, what they print to, and that an error which the user can mend ends in one line."""

import functools
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence

from datasets.catalog import DataError

NOTE = "Trained for research and teaching. Not a medical device."


def errors_in_one_line(*kinds: type[Exception]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorates a command's `main(argv=None)`: a `DataError`, what the system refuses, Ctrl-C or one of `kinds` ends it
    in one line. Where nobody reads on (`… | head`) it ends without a word, as other programs do."""

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def guarded(*args: object, **how: object) -> int:
            if isinstance(sys.stdout, io.TextIOWrapper):  # else a notebook's; a terminal may lack some letters
                sys.stdout.reconfigure(errors="replace")
            try:
                with warnings.catch_warnings():
                    silence_libraries()
                    code = main(*args, **how)
                print(end="", flush=True)
                return code
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again as it ends
                return 128 + signal.SIGPIPE
            except KeyboardInterrupt:
                print("interrupted; run the same command again to go on", file=sys.stderr)
                return 128 + signal.SIGINT
            except (DataError, OSError, *kinds) as error:
                print(f"error: {error}", file=sys.stderr)
                return 1

        return guarded

    return decorate


def silence_libraries() -> None:
    """Hide what image libraries remark on a file on their own: it gets one line of ours, or an answer."""
    warnings.filterwarnings("ignore", module=r"(PIL|pydicom|nibabel)\b")
    warnings.filterwarnings("ignore", message="Glyph ")  # a file's name may have letters that a figure's font has not
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows as an aligned text table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
