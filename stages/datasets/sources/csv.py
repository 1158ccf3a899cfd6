"""Texts in tables of comma-separated values."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from stages.datasets.examples import Examples, written
from stages.datasets.sources._files import Files, folder_or_archive
from stages.datasets.texts import TEXTS, TextForm
from stages.support.errors import UserError
from stages.support.files import readable
from stages.support.sections import Section

LISTED = "classes.txt"
TABLES = (".csv", ".tsv")
DELIMITERS, SOME = ",;\t", 50  # and rows by which they are told
Column = Annotated[int, Field(ge=0)] | str

csv.field_size_limit(2**24)  # whole articles


class Source(Section):
    """Tables `train` and `test` in a folder or tar archive, or one table: columns `text` side by side, and each row's `label`.

    A column is its number, from 0, or its name in the first row. Labels are what stands in the training table, numbers in their
    order; `classes.txt` beside it, where there is one, names them, a line each, or says their order. Without `label` texts have
    none; without `test`, prepare splits off a part of `train`.
    """

    gives: ClassVar[str] = TEXTS
    source: Literal["csv"]
    path: str
    train: str = "train.csv"
    test: str | None = None
    label: Column | None = None
    text: Annotated[list[Column], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _one_table(cls, values: Any) -> Any:
        """A path to a table is that of its folder, with the table as `train`."""
        path = values.get("path") if isinstance(values, dict) else None
        if not isinstance(path, str) or not path.endswith(TABLES) or "train" in values:
            return values
        return {**values, "path": str(PurePosixPath(path).parent), "train": PurePosixPath(path).name}

    def read(self, form: TextForm) -> Examples:
        """The rows of `train`. Raises UserError that names file and row for what is missing, empty or of another encoding."""
        return self._table(self.train)

    def read_test(self, form: TextForm) -> Examples | None:
        """The rows of `test`, or None where there is no such table."""
        return None if self.test is None else self._table(self.test)

    def _table(self, name: str) -> Examples:
        with folder_or_archive(self.path) as files:
            listed = str(PurePosixPath(self.train).with_name(LISTED))
            lines = self._text(files, listed).splitlines() if self.label is not None and listed in files.names else []
            rows = self._rows(files, name)
            known = rows if name == self.train else self._rows(files, self.train)
        texts = [text for _, text, _ in rows]
        if self.label is None:
            return written(texts)
        values = sorted({label for _, _, label in known}, key=_order)
        names = [line.strip() for line in lines if line.strip()] or values
        if set(names) == set(values):
            values = names  # they say the order
        if len(names) != len(values):
            raise UserError(f"{self.path}/{listed} names {len(names)} classes, {self.train} has {len(values)}: {_few(values)}")
        number = {value: place for place, value in enumerate(values)}
        for row, _, label in rows:
            if label not in number:
                raise UserError(f"{self.path}/{name}, row {row}: the label '{label}' is none of {self.train}: {_few(values)}")
        return written(texts, torch.tensor([number[label] for _, _, label in rows]), tuple(names))

    def _rows(self, files: Files, name: str) -> list[tuple[int, str, str]]:
        return rows_of(self._text(files, name), f"{self.path}/{name}", self.text, self.label)

    def _text(self, files: Files, name: str) -> str:
        if name not in files.names:
            tables = [known for known in sorted(files.names) if known.endswith(TABLES)]
            hint = f"; say `train: {tables[0]}`" if tables else ""
            raise UserError(f"{self.path} has no {name}; it has {_few(tables) or 'no table'}{hint}")
        ((_, file),) = files.opened([name])
        with file:
            content = file.read()
        return readable(content, f"{self.path}/{name}")


def rows_of(
    content: str, where: str, text: list[Column], label: Column | None = None, skip: Callable[[str], None] | None = None
) -> list[tuple[int, str, str]]:
    """The number of each row in a table, its text, and its label ('' without `label`); `where` is the table's name in errors.

    Where there is `skip`, it is told of each row that cannot be taken, which is then left out.
    """
    table = _table(content, _delimiter(content), where)
    wanted = [*text, *([] if label is None else [label])]
    titled = any(isinstance(column, str) for column in wanted)
    columns = [_column(column, table[0] if titled and table else [], where) for column in wanted]
    rows = []
    for number, row in enumerate(table, 1):
        if not row or (titled and number == 1):
            continue
        try:
            rows.append((number, *_taken(row, columns, len(text), len(table[0]), f"{where}, row {number}")))
        except UserError as error:
            if not skip:
                raise
            skip(str(error))
    if not rows:
        raise UserError(f"{where} has no rows")
    names = [name for _, _, name in rows]
    if not titled and len(rows) > 2 and _order(names[0])[0] and not any(_order(name)[0] for name in names[1:]):
        raise UserError(
            f"{where}, row 1: '{names[0]}' is no number as all other labels are; if these are titles, name the "
            f"columns by them: `label: {names[0]}`, `text: [...]`"
        )
    return rows


def _taken(row: list[str], columns: list[int], texts: int, width: int, where: str) -> tuple[str, str]:
    """The text in the first `texts` of the `columns` of a row, and the label in the one after them, or ''.

    Raises UserError for a row that has not the columns, is wider than the first, or has nothing in one of both.
    """
    if max(columns) >= len(row):
        raise UserError(f"{where}: has {len(row)} columns, column {max(columns)} is asked for")
    if len(row) > width:
        raise UserError(f"{where}: has {len(row)} columns, and the first has {width}; put the text into quotes")
    text, labels = (
        " ".join(row[column] for column in columns[:texts]).strip(),
        [row[column].strip() for column in columns[texts:]],
    )
    if not text or not all(labels):
        raise UserError(f"{where}: the {'label' if text else 'text'} is empty; remove the row")
    return text, "".join(labels)


def _column(column: int | str, title: list[str], where: str) -> int:
    if isinstance(column, int):
        return column
    if column not in title:
        raise UserError(f"{where} has no column '{column}' in its first row; it has {_few(title)}")
    return title.index(column)


def _order(label: str) -> tuple[bool, float, str]:
    """Numbers first, by their size: 2 before 10, and 2.0 before 10.0."""
    number = re.fullmatch(r"-?\d+(\.\d+)?", label)
    return not number, float(label) if number else 0, label


def _delimiter(content: str) -> str:
    """What separates the columns of most of the first rows, alike in each of them: a comma, a semicolon or a tab."""
    lines = [line for line in content.splitlines()[:SOME] if line.strip()]

    def split(mark: str) -> int:
        counts = [len(row) for row in csv.reader(lines, delimiter=mark) if len(row) > 1]
        return len(counts) if len(set(counts)) == 1 else 0

    return max(DELIMITERS, key=split)  # the first of those that are as good


def _table(content: str, delimiter: str, where: str) -> list[list[str]]:
    """The rows; raises UserError that names the one whose quote is left open, so that it swallows others."""
    table, begun = [], 1
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            inner = [line for cell in row for line in cell.splitlines()[1:]]
            if sum(line.count(delimiter) >= max(1, len(row) - 1) for line in inner) > 1:
                raise UserError(f"{where}, row {begun}: it swallows {reader.line_num - begun} lines; is a quote left open?")
            table.append(row)
            begun = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{where}, row {begun}: it is no row of a table ({error}); is a quote left open?") from None
    return table


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
