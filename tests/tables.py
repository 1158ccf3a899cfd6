"""Reading the tables that reports and pages have."""

from itertools import dropwhile, takewhile


def rows_of(text):
    """The first table in a text: of each row, by its first cell, the cells by the titles of their columns."""
    table = takewhile(_in_table, dropwhile(lambda line: not _in_table(line), text.splitlines()))
    titles, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    return {line[0]: dict(zip(titles, line, strict=True)) for line in lines}


def columns(text):
    """The column titles of the first table in a text."""
    return list(next(iter(rows_of(text).values())))


def named(part):
    """The columns of a part of table.md, and the scores that all students have in common, above it."""
    common = part.partition("|")[0]
    return {*columns(part), *(title for title in ("top-1 %", "top-3 %", "NLL", "mIoU %", "pixels %") if f"{title} " in common)}


def _in_table(line):
    return line.startswith("|")
