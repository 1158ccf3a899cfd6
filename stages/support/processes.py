"""Commands that may be ended before they are done."""

import signal
import subprocess
from pathlib import Path


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
