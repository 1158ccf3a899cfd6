"""Commands that may be ended before they are done, and places that one process has at a time."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.support.errors import UserError
from stages.support.files import UNKNOWN_HERE

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone(place: Path, other: str) -> Iterator[None]:
    """Hold a file or folder until the block, or the process, ends, where the file system knows locks.

    Raises UserError that begins with `other` where another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{other} and holds {place}; wait for it, or end it") from None
        except OSError as error:
            if error.errno not in UNKNOWN_HERE:
                raise
        yield
    finally:
        os.close(descriptor)


def call(*command: str, cwd: Path | None = None, seconds: float | None = None) -> int:
    """Run a command to its end and return its status; after `seconds` it is asked to end, and saves what it does.

    Ctrl-C reaches it too, and it is waited for before KeyboardInterrupt goes on.
    """
    with subprocess.Popen(command, cwd=cwd) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
