"""What an exported student says of images or texts, as a table on standard output.

EXPORTED is student.onnx, student.pt2, or their folder. INPUTS are images, folders or tar archives of them; of a student for
texts, tables (.csv): --column says in which column the texts are, by its title or its number from 0. --masks keeps what a student
that segments sees, as PNGs.
Usage: python -m stages.tools.predict EXPORTED INPUTS... [--column COLUMN] [--masks FOLDER] > predictions.csv
"""

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stages.datasets.images import to_pixels, to_unit
from stages.datasets.sources._files import folder_or_archive
from stages.datasets.sources._tree import BROKEN, ENDINGS
from stages.datasets.sources.csv import rows_of
from stages.networks.shipped import ONNX, PROGRAM, Reader
from stages.support.errors import ANY, UserError, run_script
from stages.support.extras import optional
from stages.support.files import readable, replacing
from stages.support.progress import progress

BATCH, BEST = 64, 5
Named = Iterator[tuple[str, Tensor]]


def main(*words: str) -> None:
    """Print a line for each input: its name, the class, the confidence, and the next ones; of masks, classes by their area."""
    parser = argparse.ArgumentParser("python -m stages.tools.predict", description="What an exported student says of inputs.")
    parser.add_argument("exported", type=Path, help=f"{ONNX}, {PROGRAM}, or their folder")
    parser.add_argument("inputs", nargs="+", type=Path, help="images, folders, archives; of a student for texts tables (.csv)")
    parser.add_argument("--column", default="0", help="of tables, by its title or its number from 0")
    parser.add_argument("--masks", type=Path, help="a folder for what a student that segments sees")
    asked = parser.parse_args(words)
    reader = Reader(_file(asked.exported))
    facts, classes = reader.facts, reader.facts["classes"]
    dense, best = facts["kind"] == "segmentation", min(BEST, len(classes))
    if asked.masks and not dense:
        raise UserError(f"{reader.path} gives one class for an input, so there are no masks to keep; leave out --masks")
    writer = csv.writer(sys.stdout)
    share = "area" if dense else "confidence"
    writer.writerow(["input", *(f"{word}{'' if k == 1 else k}" for k in range(1, best + 1) for word in ("class", share))])
    read = _texts(asked.inputs, reader, asked.column) if facts["kind"] == "text" else _images(asked.inputs, reader)
    for some in _batches(progress(read, "predict")):
        names, inputs = zip(*some, strict=True)
        probabilities = reader(torch.stack(inputs))[1]
        seen = probabilities.argmax(1)
        if asked.masks:
            _keep(asked.masks, names, seen)
        shares = F.one_hot(seen.flatten(1), len(classes)).double().mean(1) if dense else probabilities
        values, ks = shares.topk(best, dim=1)
        for name, mine, where in zip(names, values.tolist(), ks.tolist(), strict=True):
            pairs = zip(where, mine, strict=True)
            writer.writerow(
                [name.encode(errors="replace").decode(), *(word for k, value in pairs for word in (classes[k], f"{value:.4f}"))]
            )


def _file(exported: Path) -> Path:
    """The file to open: of a folder that of torch.export, which needs no other package."""
    if not exported.is_dir():
        return exported
    inner = sorted(str(path.parent) for path in exported.rglob(PROGRAM))
    if str(exported) not in inner:
        raise UserError(f"{exported} has no {PROGRAM}; " + (f"take {', '.join(inner[:4])}" if inner else "`export` writes it"))
    return exported / PROGRAM


def _batches(inputs: Any) -> Iterator[list[tuple[str, Tensor]]]:
    some: list[tuple[str, Tensor]] = []
    for one in inputs:
        some.append(one)
        if len(some) == BATCH:
            yield some
            some = []
    if some:
        yield some


def _images(paths: list[Path], reader: Reader) -> Named:
    """Images of these files, and of all in these folders and archives; what cannot be read is named and left out."""
    facts, found = reader.facts, 0
    shape = (1 if facts["mode"] == "L" else 3, facts["height"], facts["width"])
    for path in paths:
        for name, content in _opened(path):
            try:
                with Image.open(content) as image:
                    pixels = to_pixels(image, shape)
            except BROKEN as error:
                _skipped(f"{name}: {error}")
                continue
            found += 1
            yield name, to_unit(pixels)
    if not found:
        raise UserError(f"there is no image in {', '.join(map(str, paths))}")


def _skipped(what: str) -> None:
    print(f"skipped {what}", file=sys.stderr)


def _opened(path: Path) -> Iterator[tuple[str, Any]]:
    if not path.exists():
        raise UserError(f"{path} is missing; give images, folders or archives of them")
    if path.is_file() and path.suffix.lower() in ENDINGS:
        yield str(path), io.BytesIO(path.read_bytes())
        return
    with folder_or_archive(str(path)) as files:
        for name, content in files.opened(sorted(name for name in files.names if Path(name).suffix.lower() in ENDINGS)):
            yield f"{path}/{name}", content


def _texts(paths: list[Path], reader: Reader, column: str) -> Named:
    """A column of tables as the tokens of the student's own tokenizer, which lies beside it."""
    beside, length = reader.path.with_name("tokenizer.json"), reader.facts["length"]
    if not beside.exists():
        raise UserError(f"{beside} is missing; copy it with the student")
    tokenizer = optional("tokenizers", "text").Tokenizer.from_file(str(beside))
    tokenizer.encode_special_tokens = True  # a text that says [SEP] means the word
    for path in paths:
        if not path.is_file():
            raise UserError(f"the table {path} is missing")
        content = readable(path.read_bytes(), str(path))
        for number, text, _ in rows_of(content, str(path), [int(column) if column.isdecimal() else column], skip=_skipped):
            ids = tokenizer.encode(text).ids[:length]
            yield f"{path}:{number}", torch.tensor(ids + [reader.facts["pad"]] * (length - len(ids)))


def _keep(folder: Path, names: tuple[str, ...], seen: Tensor) -> None:
    """Masks (n, H, W) as PNGs of class numbers, under the names of the images, folders included."""
    for name, mask in zip(names, seen, strict=True):
        inner = [part for part in Path(name).parts if part not in ("..", Path(name).anchor)]
        with replacing(folder.joinpath(*inner).with_suffix(".png")) as temporary:
            Image.fromarray(mask.numpy().astype("uint8" if seen.max() < 256 else "uint16")).save(temporary, format="png")


if __name__ == "__main__":
    run_script(main, ANY)
