"""Reading the tables of results/table.md."""


def rows_of(table):
    """The row names of the first table in a text."""
    lines = next(part for part in table.split("\n\n") if part.startswith("|")).splitlines()
    return [line.split("|")[1].strip() for line in lines][2:]


def columns(table):
    """The column titles of the first table in a text."""
    titles = next(line for line in table.splitlines() if line.startswith("|")).split("|")[1:-1]
    return [title.strip() for title in titles]


def named(part):
    """The columns of a part of table.md, and the scores that all students have in common, above it."""
    common = part.partition("|")[0]
    return {*columns(part), *(title for title in ("top-1 %", "top-3 %", "NLL", "mIoU %", "pixels %") if f"{title} " in common)}
