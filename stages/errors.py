"""Errors that a user can mend: one clear line, a non-zero exit and nothing half-written."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something outside the code is wrong; the message names the key or file and the fix."""


def run_script(main: Callable[..., None], *names: str) -> None:
    """Call `main` with the command-line arguments called `names`; turn expected failures into one line.

    Exits 2 on a wrong number of arguments, 1 on a UserError or an operating-system error, 130 on Ctrl-C.
    """
    arguments = sys.argv[1:]
    if len(arguments) != len(names):
        usage = " ".join(name.upper() for name in names)
        sys.exit(_line(f"usage: python -m {main.__module__ if main.__module__ != '__main__' else 'stages.STAGE'} {usage}") or 2)
    try:
        main(*arguments)
    except UserError as error:
        sys.exit(_line(f"error: {error}") or 1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(_line(f"error: {error.strerror or error}{where}: check the free space and the rights of that place, then run again") or 1)
    except KeyboardInterrupt:
        sys.exit(_line("interrupted: run the same command again; training goes on from its last checkpoint") or 130)


def _line(text: str) -> None:
    print(text, file=sys.stderr)
