"""Writing files so that a crash leaves either the old file or the new one, never half of one."""

import codecs
import errno
import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.support.errors import UserError, remake

INFO = "info"
WORK_SPACE = ".dvc/tmp/exps"  # where `dvc exp run --queue` and `--temp` run
UNKNOWN_HERE = (
    errno.EINVAL,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.ENOLCK,
)  # what a file system says of a call that it does not know
# As Hugging Face's library calls weights, and the list of those that it wrote in several files.
OF_FOLDERS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")
BESIDE = CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"  # what says how they are used


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it over `path` when the block ends well, remove it otherwise.

    What is moved is on the disk by then, lest a power cut leave a name without its bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say whose bytes did not fit
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; it takes its place when the block ends well, and is removed otherwise.

    So what lies in a folder was written by one run. What killed ones left beside it goes too: one process at a time writes it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(left)
    temporary, old = (folder.with_name(f".{folder.name}.{what}.tmp") for what in ("new", "old"))
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        _flush(folder.parent)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def listed(names: list[str] | str) -> list[str]:
    """The names in the file called `names`; or `names`, each that ends in `.txt` replaced by those in that file.

    Raises UserError for a missing file.
    """
    given = [names] if isinstance(names, str) else names
    try:
        return [name for one in given for name in (_lines(one) if one in lists(names) else [one])]
    except FileNotFoundError as error:
        raise UserError(f"the list of classes {error.filename} is missing; write one class's name a line") from None


def elsewhere() -> str:
    """What else to say of a missing file or folder, where this runs in a work space of DVC, which has only what git has."""
    inside = WORK_SPACE in Path.cwd().as_posix()
    return "; this is a work space of `dvc exp run`, which has what git has: give an absolute path" if inside else ""


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number behind those that stand there already: `crane` is a bird, and `crane 2` a machine."""
    return tuple(name if (n := names[:i].count(name)) == 0 else f"{name} {n + 1}" for i, name in enumerate(names))


def lists(names: list[str] | str) -> list[str]:
    """Which files `listed` reads for `names`."""
    return [names] if isinstance(names, str) else [name for name in names if isinstance(name, str) and name.endswith(".txt")]


def _lines(path: str) -> list[str]:
    return [line.strip() for line in readable(Path(path).read_bytes(), path).splitlines() if line.strip()]


def readable(content: bytes, where: str) -> str:
    """A text file's content, UTF-8 or, where it begins with their mark, UTF-16; names are in one form of Unicode (NFC).

    Raises UserError that names the file `where` for another encoding.
    """
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return unicodedata.normalize("NFC", content.decode(encoding))
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _umask() -> int:
    """What the user takes from the rights of new files; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN_HERE or not path.is_dir():  # shared folders do not know it of a folder
            raise
    finally:
        os.close(descriptor)


def save_tensors(path: Path, tensors: dict[str, Tensor], info: dict[str, Any] | None = None) -> None:
    """Write one safetensors file, atomically, with a digest of all in it; raises OSError where it cannot be written."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    label = json.dumps(info or {})
    # One entry only: safetensors writes several in an order of its own, and the file's hash would change with every run.
    metadata = {INFO: json.dumps([label, digest(whole, label)])}
    with replacing(path) as temporary:
        try:
            save_file(whole, temporary, metadata)
            temporary.chmod(0o666 & ~_umask())  # safetensors makes files that nobody else may read
        except SafetensorError as error:
            raise OSError(None, str(error), str(path)) from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the `info` that `save_tensors` wrote; raises UserError for a missing file or a damaged one."""
    if not path.exists():
        raise UserError(f"{path} is missing; {remake(path)} builds it")
    try:
        with safe_open(path, "pt") as file:
            label, known = json.loads(file.metadata()[INFO])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iteration protocol
        info: dict[str, Any] = json.loads(label)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error)) from None
    if digest(tensors, label) != known:
        raise damaged(path, "its digest is another")
    return tensors, info


def digest(tensors: dict[str, Tensor], label: str = "") -> str:
    """64 hexadecimal digits that change with the `label` and with any bit, type, form or name of the tensors."""
    found = hashlib.sha256(label.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        found.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def sha256(path: Path) -> str:
    """64 hexadecimal digits that change with any byte of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_in(path: Path) -> Path:
    """The file of weights in a folder as Hugging Face's library writes it; `path` itself where it is no folder, or has none."""
    return next((path / name for name in OF_FOLDERS if (path / name).is_file()), path)


def damaged(path: Path, reason: str) -> UserError:
    """What to raise for a file that a stage wrote, and that is not as it wrote it."""
    reason = reason.splitlines()[0] if reason else "empty"
    return UserError(f"{path} is damaged ({reason}); restore it, or remove it, and {remake(path)} builds it")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises OSError where the file is missing, UserError where it is none."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise damaged(path, str(error)) from None
    if not isinstance(content, dict):
        raise damaged(path, "no JSON object")
    return content
