"""Texts in tables of comma-separated values."""

import csv
import io
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from stages.datasets.examples import Examples, written
from stages.datasets.sources._files import Files, folder_or_archive
from stages.datasets.texts import TEXTS, TextForm
from stages.support.errors import UserError
from stages.support.sections import Section

LISTED = "classes.txt"
Column = Annotated[int, Field(ge=0)] | str

csv.field_size_limit(2**24)  # whole articles


class Source(Section):
    """Tables `train` and `test` in a folder or tar archive: the columns `text` side by side, and the `label` of each row.

    A column is its number, from 0, or its name in the first row. Labels are what stands in the training table, numbers in their
    order; `classes.txt` beside it, where there is one, names them, a line each. Without `label` texts have none; without `test`,
    prepare splits off 30 % of `train`.
    """

    gives: ClassVar[str] = TEXTS
    source: Literal["csv"]
    path: str
    train: str = "train.csv"
    test: str | None = None
    label: Column | None = None
    text: Annotated[list[Column], Field(min_length=1)]

    def read(self, form: TextForm) -> Examples:
        """The rows of `train`. Raises UserError that names file and row for what is missing, empty or of another encoding."""
        return self._table(self.train)

    def read_test(self, form: TextForm) -> Examples | None:
        """The rows of `test`, or None where there is no such table."""
        return None if self.test is None else self._table(self.test)

    def _table(self, name: str) -> Examples:
        with folder_or_archive(self.path) as files:
            listed = str(PurePosixPath(self.train).with_name(LISTED))
            names = self._text(files, listed).split("\n") if self.label is not None and listed in files.names else []
            texts, labels = self._rows(files, name)
            known = labels if name == self.train else self._rows(files, self.train)[1]
        if self.label is None:
            return written(texts)
        values = sorted(set(known), key=lambda value: (not value.isdecimal(), int(value) if value.isdecimal() else 0, value))
        names = [line.strip() for line in names if line.strip()] or values
        if len(names) != len(values):
            raise UserError(f"{self.path}/{listed} names {len(names)} classes, {self.train} has {len(values)}: {_few(values)}")
        number = {value: place for place, value in enumerate(values)}
        if strange := [(row, value) for row, value in enumerate(labels, 1) if value not in number]:
            row, value = strange[0]
            raise UserError(f"{self.path}/{name}, row {row}: the label '{value}' is none of {self.train}: {_few(values)}")
        return written(texts, torch.tensor([number[value] for value in labels]), tuple(names))

    def _rows(self, files: Files, name: str) -> tuple[list[str], list[str]]:
        """The text of each row, and its label ('' without `label`)."""
        table = list(csv.reader(io.StringIO(self._text(files, name), newline="")))
        wanted = [*self.text, *([] if self.label is None else [self.label])]
        titled = any(isinstance(column, str) for column in wanted)
        title = table.pop(0) if titled and table else []
        columns = [self._column(column, title, name) for column in wanted]
        texts, labels = [], []
        for number, row in enumerate(table, 1 + titled):
            if max(columns) >= len(row):
                raise UserError(f"{self.path}/{name}, row {number}: has {len(row)} columns, column {max(columns)} is asked for")
            text = " ".join(row[column] for column in columns[: len(self.text)]).strip()
            if not text:
                raise UserError(f"{self.path}/{name}, row {number}: the text is empty; remove the row")
            texts.append(text)
            labels.append("" if self.label is None else row[columns[-1]].strip())
        if not texts:
            raise UserError(f"{self.path}/{name} has no rows")
        return texts, labels

    def _column(self, column: int | str, title: list[str], name: str) -> int:
        if isinstance(column, int):
            return column
        if column not in title:
            raise UserError(f"{self.path}/{name} has no column '{column}' in its first row; it has {_few(title)}")
        return title.index(column)

    def _text(self, files: Files, name: str) -> str:
        if name not in files.names:
            tables = [known for known in sorted(files.names) if known.endswith(".csv")]
            raise UserError(f"{self.path} has no {name}; it has {_few(tables) or 'no table'}")
        ((_, file),) = files.opened([name])
        with file:
            content = file.read()
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}/{name} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
