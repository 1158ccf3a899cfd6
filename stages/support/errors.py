"""Errors that a user can mend: one clear line, a non-zero exit and nothing half-written."""

import errno
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from stages.support.memory import keep_freed

# Who knows in which file a parameter stands adds a function here: from its name in code to `FILE: KEY`, or None.
places: list[Callable[[str], str | None]] = []
NAMED = re.compile(r"(?:^|(?<=`))(?:task|row|method|run|impress|export)\.[^\s:`]+(?=: |`)")

# What mends an error of the operating system.
FIXES = {
    errno.ENOSPC: ": make room there, then run again",
    errno.EDQUOT: ": make room there, then run again",
    errno.EACCES: ": change the rights of that place, then run again",
    errno.EPERM: ": change the rights of that place, then run again",
    errno.EROFS: ": nothing can be written there; take another place",
    errno.EFBIG: ": a file may not be so large there; take another place, or raise the limit (`ulimit -f`)",
    errno.EMFILE: ": allow more open files (`ulimit -n`), then run again",
}
ANY = "..."  # words that a script reads itself


class UserError(Exception):
    """Something outside the code is wrong; the message names the key or file and the fix.

    A parameter that a message begins with, or that stands between backticks, is shown with the file in which it stands.
    """

    def __str__(self) -> str:
        return placed(super().__str__())


def placed(message: str) -> str:
    """The `message` with the file and key of each parameter in it: task.NAME.KEY, row.TASK.ROW.KEY, method.ROW.KEY, run.KEY."""

    def of(match: re.Match[str]) -> str:
        return next((found for find in places if (found := find(match[0]))), match[0])

    return NAMED.sub(of, message)


@contextmanager
def about(where: str) -> Iterator[None]:
    """Begin the UserErrors of this block with the parameter `where` that led to them."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def remake(path: Path) -> str:
    """The command that makes a stage's output anew, as far as dvc.lock knows whose it is."""
    lock = Path("dvc.lock")
    known = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
    for stage, entry in known.items():
        if any(path == Path(out["path"]) or Path(out["path"]) in path.parents for out in entry.get("outs", [])):
            return f"`dvc repro {stage}`"
    return "`dvc repro`"


def run_script(main: Callable[..., None], *names: str) -> None:
    """Call `main` with the command-line arguments called `names`, or ANY; turn expected failures into one line.

    Exits 2 on a wrong number of arguments, 1 on a UserError or an operating-system error, 130 on Ctrl-C.
    """
    keep_freed()
    arguments = sys.argv[1:]
    if names != (ANY,) and len(arguments) != len(names):
        _leave(2, f"usage: python -m {_name()} {' '.join(name.upper() for name in names)}")
    try:
        main(*arguments)
    except UserError as error:
        _leave(1, f"error: {error}")
    except FileNotFoundError as error:
        missing = Path(str(error.filename or error))
        _leave(1, f"error: {missing} is missing; {remake(missing)} builds it")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _leave(1, f"error: {error.strerror or error}{where}{FIXES.get(_number(error), '')}")
    except KeyboardInterrupt:
        _leave(130, "interrupted: run the same command again; it goes on from what was saved")


def _number(error: OSError) -> int:
    """Its number; libraries that are not written in Python put it into their words."""
    told = re.search(r"os error (\d+)", str(error))
    return error.errno or (int(told[1]) if told else 0)


def _name() -> str:
    """The name of the module that was started."""
    return str(sys.modules["__main__"].__spec__.name)  # type: ignore[union-attr]


def _leave(status: int, line: str) -> None:
    print(line, file=sys.stderr)
    sys.exit(status)
