"""What the files are like that sources read, so that a later stage can tell whether they still are."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.datasets.sources._files import walk
from stages.support.files import lists, read_json

Stamp = dict[str, int]


def stamps(content: Any) -> dict[str, Stamp]:
    """Number of files, bytes and time of the newest (seconds) of the `path` of each source in `content` of params.yaml.

    Lists of classes and a folder of a tokenizer too.
    """
    return {path: stamp for path in _paths(content) if (stamp := _stamp(Path(path)))}


def changed(read: dict[str, Stamp]) -> list[str]:
    """The paths that are not as `stamps` found them; what is gone does not count, for it may lie on another machine."""
    return [path for path, stamp in read.items() if _stamp(Path(path)) not in (stamp, None)]


def notice_changes(read: Path, task: str) -> None:
    """Say so where what `prepare` read for `task`, as the file `read` has it, has changed since: DVC does not look there."""
    for path in changed(read_json(read)) if read.exists() else ():
        print(f"{path} is not as `prepare` read it; `dvc repro -f prepare@{task}` reads it again", file=sys.stderr)


def _paths(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        if "source" in content and isinstance(content.get("path"), str):
            yield content["path"]
        yield from lists(content.get("classes") or [])
        if isinstance(content.get("tokenizer"), str):
            yield content["tokenizer"]
        content = list(content.values())
    if isinstance(content, list):
        for inner in content:
            yield from _paths(inner)


def _stamp(path: Path) -> Stamp | None:
    found = [file.stat() for file in ([path] if path.is_file() else walk(path))]
    if not found:
        return None
    return {"files": len(found), "bytes": sum(one.st_size for one in found), "newest": int(max(one.st_mtime for one in found))}
