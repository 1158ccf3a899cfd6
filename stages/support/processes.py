"""Commands that may be ended before they are done, and places that one process has at a time."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.support.errors import UserError


@contextmanager
def alone(place: Path, other: str) -> Iterator[None]:
    """Hold a file or folder until the block, or the process, ends.

    Raises UserError that begins with `other` where another process holds it.
    """
    descriptor = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{other} and holds {place}; wait for it, or end it") from None
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
