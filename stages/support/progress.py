"""One progress bar for all long work; quiet in logs, where a bar would be a thousand lines."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable[Any], what: str, **options: Any) -> Any:
    """A tqdm bar with speed and time left: refreshed ten times a second on a terminal, every 30 s in a log."""
    return tqdm(items, what, mininterval=0.1 if sys.stderr.isatty() else 30, dynamic_ncols=True, **options)
