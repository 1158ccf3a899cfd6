"""Stage `overview`: tables of the tasks of this run, then of every other that was reported before.

Usage: python -m stages.overview
"""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from stages.kinds import FOLDER, aspect
from stages.methods._described import described
from stages.methods._identities import with_reported
from stages.reporting import records, tables
from stages.reporting.figures import distance, sizes
from stages.reporting.page import Section, page
from stages.settings import paths
from stages.settings.params import COST, TEACHER, Params, load
from stages.settings.paths import Places
from stages.settings.plans import HALF, UNKNOWN
from stages.settings.task import STUDENT_DOMAIN
from stages.support.errors import run_script
from stages.support.files import read_json, replacing, write_json
from stages.support.plugins import plugins

MADE = ("revision", "device", "precision")
LABELS = ["task", "method", "marks", "headline"]  # the first columns of table.csv


@dataclass
class Written:
    """What the tables say, task by task: as text, as numbers, and as sections of the page."""

    text: dict[str, list[str]] = field(default_factory=dict)  # by task, its tables with what is said of them
    numbers: list[pd.DataFrame] = field(default_factory=list)
    cells: dict[str, dict[str, str]] = field(default_factory=dict)  # of the run's tasks, to stand beside each other
    summary: dict[str, dict[str, float]] = field(default_factory=dict)
    costs: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)


def main() -> None:
    """Write table.md, table.csv, summary.json, report.html and two figures of tasks, of all files under results/tasks.

    At smoke scale they are written of its own files too, under results/smoke.
    """
    params, known = load(), read_json(paths.identities())
    for scale in records.scales(params.run.scale):
        shown = write(params, scale, known.get(scale, {}))
    print(shown)


def write(params: Params, scale: str, now: dict[str, Any]) -> str:
    """Write the tables of `scale`; `now` has the identities of today's code and parameters. Returns those of the run."""
    reports, out = records.everything(scale), paths.results(scale)
    order = list(dict.fromkeys([*params.run.tasks, *now]))
    reports = {task: reports[task] for task in sorted(reports, key=lambda name: (_place(name, order), name))}
    written = Written()
    for task, report in reports.items():
        _add(written, with_reported(params, report["rows"]), task, report, now.get(task, {}))
    distance.draw(reports, out / "figures")
    sizes.draw(reports, out / "figures")
    legend, beside = [*written.notes, *tables.LEGEND], tables.beside_each_other(written.cells)
    first = ["### Tasks beside each other", beside] if beside else []
    with replacing(out / "report.html") as temporary:
        temporary.write_text(page("Results", written.sections, legend))
    with replacing(out / "table.md") as temporary:
        lines = [line for text in written.text.values() for line in text]
        meanings = "\n".join(f"- {line}" for line in legend)
        temporary.write_text("\n\n".join([*first, *lines, "### What the columns mean", meanings]) + "\n")
    with replacing(out / "table.csv") as temporary:
        _in_columns(written.numbers).to_csv(temporary, index=False)  # with all digits: a page that takes them rounds once
    write_json(out / "summary.json", {**written.summary, COST: written.costs})
    of_run = [line for task in params.run.tasks for line in written.text.get(task, [])]
    return "\n\n".join([*first, *of_run, f"All tables: {out}/table.md; with figures, sortable: {out}/report.html"])


def _add(written: Written, params: Params, task: str, report: dict[str, Any], here: dict[str, Any]) -> None:
    """Add a task's tables; `here` has the identities of today's code and parameters."""
    measure, known = aspect(report["kind"], "scores"), report["rows"]
    rows, headline = in_order(known, params), report["headline"]
    shown = tables.columns(measure.COLUMNS, headline)
    marked = {row: marks(row, rows, here) for row in rows}
    called, below = {row: " ".join([row, *marked[row]]) for row in rows}, notes(rows)
    written.notes[measure.NOTE] = None
    written.text[task] = []
    for title, domain, baseline in (
        (task, None, tables.BASELINE),
        (f"{task}-{STUDENT_DOMAIN}", STUDENT_DOMAIN, tables.ALONE),
    ):
        if (runs := tables.runs(rows, domain)).empty:
            continue
        unmeasured = tables.UNMEASURED.get(headline)
        table = tables.summarise(runs, headline, None if unmeasured else baseline)
        if "gain" in table:
            table["gain"] = table["gain"].where(~table.index.isin(tested_otherwise(rows)))
        common, words = tables.in_words(table, shown, called)
        above = [*([unmeasured] if unmeasured else []), *([common] if common else [])]
        written.text[task] += [f"### {title}", *above, tables.to_markdown(words), *below]
        pictures = sorted(_figures(task)) if domain is None else []
        about = _described(params, rows) if domain is None else pd.DataFrame()
        written.sections.append(Section(title, words, [*above, *below], pictures, about))
        labels = {"task": title, "marks": [" ".join(marked[row]) for row in table.index], "headline": headline}
        written.numbers.append(table.assign(**labels).reset_index())
        if task in params.run.tasks:
            written.cells[f"{title}, {shown[headline][0]}"] = tables.cells(table, headline, marked)
        written.summary[title] = {str(row): round(value, 2) for row, value in table[headline].items() if pd.notna(value)}
        if domain is None:
            written.costs[task] = {str(row): _cost(line) for row, line in table.iterrows() if row != TEACHER}


def _place(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else len(order)


def _figures(task: str) -> list[Any]:
    """The task's figures as they were drawn here, or else as they were published."""
    places = Places(task)
    return list(places.figures.glob("*.png")) or list(places.published.glob("*.png"))


def _in_columns(numbers: list[pd.DataFrame]) -> pd.DataFrame:
    """All tables as one, in the columns of every kind of task there is: a task more changes no line of the others."""
    kinds = [aspect(kind, "scores").COLUMNS for kind in plugins(FOLDER)]
    known = dict.fromkeys(key for columns in kinds for key in tables.columns(columns, next(iter(columns))))
    everything = pd.concat(numbers) if numbers else pd.DataFrame()
    return everything.reindex(columns=[*LABELS, *known, *sorted({*map(str, everything)} - {*LABELS, *known})])


def _described(params: Params, rows: dict[str, Any]) -> pd.DataFrame:
    """Say what each row is, and where, when, how long and at what precision its runs were made."""
    lines = []
    for row, known in rows.items():
        runs = [found["made"] for found in known.get("seeds", {}).values()] or [known["made"]]
        what = described(params, row) if row in params.rows else ("the task's teacher" if row == TEACHER else "–")
        facts = {key: ", ".join(dict.fromkeys(str(run[key]) for run in runs if key in run)) for key in MADE}
        seconds = [run["seconds"] for run in runs if "seconds" in run]
        lines.append({"row": row, "what it is": what, **facts, "seconds a run": round(sum(seconds) / max(len(seconds), 1))})
    return pd.DataFrame(lines)


def in_order(rows: dict[str, Any], params: Params) -> dict[str, Any]:
    """The teacher, then methods, each before its variants, then rows that the catalogue no longer has."""
    names = {row: place for place, row in enumerate([TEACHER, *params.in_order()])}
    return {row: rows[row] for row in sorted(rows, key=lambda row: names.get(row, len(names)))}


def marks(row: str, known: records.Rows, here: dict[str, Any]) -> list[str]:
    """Marks of a row: an upper bound; a schedule of its own; other parameters or another teacher than `here`, or other code."""
    now = {key: value for key, value in here.items() if key != "rows"} | {"distill": here.get("rows", {}).get(row)}
    pairs = [(told, now.get(stage) or "") for identity in records.identities(known[row]) for stage, told in identity.items()]
    beside = records.teachers(known)
    another = bool(beside) and not records.taught_by(known[row]) <= beside
    older = another or any(today[:HALF] not in (told[:HALF], UNKNOWN) for told, today in pairs)
    says = {
        tables.UPPER_BOUND: known[row].get("upper_bound"),
        tables.RESCHEDULED: records.schedule(known[row]),
        tables.OLDER: older,
        tables.RECODED: not older and any(told[HALF:] != today[HALF:] for told, today in pairs),
    }
    return [mark for mark, so in says.items() if so]


def tested_otherwise(rows: records.Rows) -> set[str]:
    """Rows that were scored on another test set than the baseline beside them: a gain over it would mean nothing."""
    if tables.BASELINE not in rows:
        return set()
    prepared = {row: {identity.get("prepare") for identity in records.identities(known)} for row, known in rows.items()}
    return {row for row, found in prepared.items() if found != prepared[tables.BASELINE]}


def notes(rows: dict[str, Any]) -> list[str]:
    """What is to be said below a table: rows that do not run, schedules that differ, smoke scale, on what rows were made."""
    absent = [f"`{row}` {known['why_not']}" for row, known in rows.items() if "why_not" in known]
    made = {row: [found["made"] for found in known.get("seeds", {}).values()] for row, known in rows.items()}
    own = [f"`{row}` {_own(changes)}" for row, known in rows.items() if (changes := records.schedule(known))]
    smoke = [row for row, runs in made.items() if any(run["scale"] == "smoke" for run in runs)]
    origins: dict[str, list[str]] = {}
    for row, runs in made.items():
        for origin in dict.fromkeys(
            f"{run['device']}, torch {run['versions']['torch']}, revision {run['revision']}" for run in runs
        ):
            origins.setdefault(origin, []).append(row)
    by = [origin if len(origins) == 1 else f"{origin}: {', '.join(names)}" for origin, names in origins.items()]
    return [
        *([f"n/a: {'; '.join(absent)}."] if absent else []),
        *([f"{tables.RESCHEDULED} {'; '.join(own)}."] if own else []),
        *([tables.SMOKE.format(rows=", ".join(smoke))] if smoke else []),
        f"Made on {'; '.join(by)}.",
    ]


def _own(changes: dict[str, Any]) -> str:
    """A schedule's changes: key, value, and that of the task in brackets."""
    return ", ".join(f"{key} {tables.worded(own)} ({tables.worded(given)})" for key, (given, own) in changes.items())


def _cost(line: Any) -> dict[str, float]:
    return {"seeds": int(line["n"])} | {key: float(f"{line[key]:.4g}") for key in tables.COST if pd.notna(line.get(key))}


if __name__ == "__main__":
    run_script(main)
