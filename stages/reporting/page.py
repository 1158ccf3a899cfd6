"""results/report.html: every task's tables, sortable, with figures and what each row is; one file that needs no network."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import itables
import pandas as pd
from itables.javascript import generate_init_offline_itables_html
from PIL import Image

from stages.reporting import tables

WIDTH = 1100  # pixels of a figure at most
COLUMNS = 9  # of a table that stand open; the others are folded
CAPTIONS = {
    "samples": "What methods learn from, by the class that the teacher sees",
    "curves": "Learning curves on the validation split",
    "accuracy": "Scores of all rows",
    "confusion": "Which classes are taken for which",
    "diversity": "How varied the images of each method are",
    "pool-scores": "What the teacher says of the other images",
    "pool-classes": "The classes that the teacher sees in them",
    "pool-extremes": "The best and the worst of them",
    "segmented": "What each network sees in the same images",
    "classes": "Each class's IoU",
    "space": "The common space of several teachers",
}
BUNDLE = Path(itables.__file__).parent / "html" / "dt_bundle.js"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1400px; padding: 1rem 2rem; color: #222; }
nav a { display: inline-block; margin: 0 .8rem .2rem 0; }
section { border-top: 1px solid #ccc; margin-top: 2rem; overflow-x: auto; }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; }
figure img { max-width: 640px; width: 100%; height: auto; }
figure img.wide { max-width: 1100px; }
figcaption, .note { color: #555; font-size: 13px; }
td.text { max-width: 46rem; white-space: normal; }
table, .dt-container { font: inherit !important; }
"""


@dataclass(frozen=True)
class Section:
    """A task: its table, of short texts; what is to be said of it; its figures; what each row is and how it was made."""

    title: str
    table: pd.DataFrame
    notes: Sequence[str] = ()
    figures: Sequence[Path] = ()
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)


def page(title: str, sections: Sequence[Section], legend: Sequence[str]) -> str:
    """The whole page, with the lines of the `legend` at its end.

    Tables are sorted by a click on a column's head; figures are shrunk to WIDTH and lie in the page.
    """
    links = "".join(f'<a href="#{_anchor(one.title)}">{html.escape(one.title)}</a>' for one in sections)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>",
        f"<body><h1>{html.escape(title)}</h1><nav>{links}</nav>",
        generate_init_offline_itables_html(BUNDLE),
        *(_section(number, one) for number, one in enumerate(sections)),
        f'<section><ul class="note">{"".join(f"<li>{html.escape(line)}</li>" for line in legend)}</ul></section></body></html>',
    ]
    return "\n".join(parts)


def _section(number: int, one: Section) -> str:
    parts = [
        f'<section id="{_anchor(one.title)}"><h2>{html.escape(one.title)}</h2>',
        _sortable(one.table.iloc[:, :COLUMNS], f"scores-{number}"),
    ]
    if said := [f"{mark} {what}" for mark, what in tables.MARKS.items() if one.table["method"].str.contains(mark).any()]:
        parts.append(f'<p class="note">{html.escape("; ".join(said))}.</p>')
    if len(one.table.columns) > COLUMNS:
        rest = one.table.iloc[:, [0, *range(COLUMNS, len(one.table.columns))]]
        parts += ["<details><summary>More columns: networks and cost</summary>", _sortable(rest, f"more-{number}"), "</details>"]
    parts += [f'<p class="note">{html.escape(note)}</p>' for note in one.notes]
    if len(one.rows):
        parts += [
            "<details><summary>What each row is, and how it was made</summary>",
            _sortable(one.rows, f"rows-{number}"),
            "</details>",
        ]
    parts += [
        f"<figure>{_embedded(path)}<figcaption>{html.escape(_caption(path.stem))}</figcaption></figure>" for path in one.figures
    ]
    return "\n".join([*parts, "</section>"])


def _caption(name: str) -> str:
    """What a figure shows, by the name of its file."""
    return next((f"{words} ({name})" for known, words in CAPTIONS.items() if name.startswith(known)), name)


def _sortable(table: pd.DataFrame, name: str) -> str:
    """Shown as long as it is: nothing to page through, no search, its own order until a head is clicked.

    Without a `name` it gets a random one, and the page differs each time it is written.
    """
    off = {"topStart": None, "topEnd": None, "bottomStart": None, "bottomEnd": None}
    table = table.replace(tables.NONE, "-")  # which counts as empty there, so that the rest of a column are numbers
    return itables.to_html_datatable(
        table,
        table_id=name,
        connected=False,
        layout=off,
        paging=False,
        order=[],
        showIndex=False,
        text_in_header_can_be_selected=False,
    )


def _embedded(path: Path) -> str:
    """The picture in the page itself; one that is much wider than high, such as panels beside each other, is shown so."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
        image.thumbnail((WIDTH, 4 * WIDTH))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    wide = ' class="wide"' if image.width > max(2 * image.height, WIDTH - 1) else ""
    return f'<img loading="lazy"{wide} alt="{html.escape(path.stem)}" src="data:image/webp;base64,{data}">'


def _anchor(title: str) -> str:
    return title.replace(" ", "-")
