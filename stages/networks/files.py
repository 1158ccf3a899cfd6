"""What is in a file of weights that another program wrote, and what the file is where it holds none."""

import argparse
import collections
import importlib
import pathlib
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.support.errors import UserError

# Under which keys training programs put a state_dict; those of averaged weights are taken where there are no others.
USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
ARRAYS: Any = importlib.import_module("numpy._core.multiarray")
# What programs keep beside tensors, and what runs no code: settings, paths, and numbers of numpy, which it calls by two names.
HARMLESS: list[Any] = [
    argparse.Namespace,
    collections.defaultdict,
    dict,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    numpy.dtype,
    numpy.ndarray,
    *(type(numpy.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")),
    *(
        (getattr(ARRAYS, name), f"numpy.{core}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for core in ("_core", "core")
    ),
]
HEAD = 512  # bytes that say what a file is
PLAIN = "save the tensors alone where it was made, by torch.save(net.state_dict(), path)"


def contents(path: Path, key: str, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the file at `path` by name, those of its part `key` if that is given, and what there is to say of it.

    `key` is a dictionary of the file, or the beginning of names. Raises UserError that names the section `where` for a file of
    another kind, a damaged one, a part that it has not, and tensors that are quantised.
    """
    if kind := another_kind(path):
        raise UserError(f"{path} is {kind}")
    found, notes = _read(path), list[str]()
    if key and isinstance(found.get(key), dict):
        found, key = found[key], ""
    while not _tensors(found):
        inner = [name for name in (*USUAL, *AVERAGED) if isinstance(found.get(name), dict)]
        if not inner:
            known = ", ".join(map(str, list(found)[:8])) or "none"
            raise UserError(
                f"{path} holds no state_dict (names and tensors); its keys are {known}: "
                f"name the right one, `{where}.key`, or {PLAIN}"
            )
        if averaged := [name for name in inner[1:] if name in AVERAGED and not key]:
            notes.append(f"it has '{averaged[0]}' too, which `key: {averaged[0]}` takes")
        found = found[inner[0]]
    state = _tensors(found)
    if key:
        known = ", ".join(dict.fromkeys(name.partition(".")[0] for name in state))
        state = {name.removeprefix(f"{key}."): value for name, value in state.items() if name.startswith(f"{key}.")}
        if not state:
            raise UserError(f"{where}.key: {path} has no part '{key}'; the names in it begin with {known}")
    if any(value.is_quantized for value in state.values()):
        raise UserError(f"{path} holds quantised tensors, which cannot be trained against; give the weights before quantisation")
    return state, notes


def another_kind(path: Path) -> str:
    """What a file is that holds no weights, in words, with the way out; nothing of one that may."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    start = head.lstrip().lower()
    if not head:
        return "empty: copy it again"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself: run `git lfs pull` where it came from"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights: the download met a login or an error; fetch it again"
    if head.startswith(b"\x89HDF"):
        return "a file of HDF5 (Keras): export the network to ONNX and give it as `onnx`"
    if head[4:8] == b"TFL3":
        return "a network of TensorFlow Lite: export it to ONNX before quantisation and give it as `onnx`"
    if head.startswith((b"\x1f\x8b", b"7z", b"Rar!", b"BZh", b"\xfd7zXZ")):
        return "a compressed archive: unpack it, and give the file of weights in it"
    if path.name.endswith(".index.json"):
        return "a list of the files that hold the weights: give the folder, with `network: huggingface`"
    if path.suffix == ".onnx" or (head[0] == 8 and re.search(rb"pytorch|onnx|tf2onnx|keras2onnx|skl2onnx", head)):
        return "a network of ONNX: give it as `onnx` in place of `weights`"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
            return "a program of torch.export: give it as `exported` in place of `weights`"
        if any("/code/" in name for name in names) and any(name.endswith("constants.pkl") for name in names):
            return f"a TorchScript program: {PLAIN}, or export it by torch.export or to ONNX"
        if not any(name.endswith("data.pkl") for name in names):
            return "a zip archive without tensors: unpack it, and give the file of weights in it"
    return ""


def _read(path: Path) -> dict[Any, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(HARMLESS):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise UserError(f"{path} holds Python objects{what}, which may run code, or is damaged; {PLAIN}") from None
    except (OSError, RuntimeError, EOFError, SafetensorError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as a safetensors or state_dict file ({reason})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no state_dict (names and tensors) but a {type(found).__name__}; {PLAIN}")
    return found


def _tensors(found: dict[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state_dict; nothing where these are not most of what it holds."""
    state = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    return state if 2 * len(state) > len(found) else {}
