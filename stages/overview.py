"""Stage `overview`: tables of the tasks of this run, then of every other that was reported before.

Usage: python -m stages.overview
"""

from typing import Any

import pandas as pd

from stages.kinds import aspect
from stages.methods._described import described
from stages.reporting import records, tables
from stages.reporting.figures import distance, values
from stages.reporting.page import Section, page
from stages.settings import paths
from stages.settings.params import COST, TEACHER, Params, load
from stages.settings.task import STUDENT_DOMAIN
from stages.support.errors import run_script
from stages.support.files import read_json, replacing, write_json

MADE = ("revision", "device", "precision")


def main() -> None:
    """Write table.md, table.csv, summary.json, report.html and two figures, of all files under results/tasks."""
    now, params = read_json(paths.identities()), load()
    names = [path.stem for path in paths.report("").parent.glob("*.json")]
    text, of_run, found, cells, summary, costs, sections = [], [], [], {}, {}, {}, list[Section]()
    said: dict[str, None] = {}
    reports: records.Reports = {}
    headlines: dict[str, str] = {}
    order = list(dict.fromkeys([*params.run.tasks, *now]))
    for task in sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name)):
        here = now.get(task, {})
        reports[task] = report = records.load(task)
        measure, known = aspect(report["kind"], "scores"), report["rows"]
        rows = in_order(known, here)
        headlines[task] = headline = next(iter(measure.COLUMNS))
        shown = tables.columns(measure.COLUMNS)
        marked = {row: marks(row, known, here) for row, known in rows.items()}
        called, below = {row: " ".join([row, *marked[row]]) for row in rows}, notes(rows)
        said[measure.NOTE] = None
        for title, domain, baseline in (
            (task, None, tables.BASELINE),
            (f"{task}-{STUDENT_DOMAIN}", STUDENT_DOMAIN, tables.ALONE),
        ):
            if not (runs := tables.runs(rows, domain)).empty:
                table = tables.summarise(runs, headline, baseline)
                common, words = tables.in_words(table, shown, called)
                above = [common] if common else []
                written = [f"### {title}", *above, tables.to_markdown(words), *below]
                text += written
                of_run += written if task in params.run.tasks else []
                pictures = sorted(paths.figures(task).glob("*.png")) if domain is None else []
                about = _described(params, rows) if domain is None else pd.DataFrame()
                sections.append(Section(title, words, [*above, *below], pictures, about))
                labels = {"task": title, "marks": [" ".join(marked[row]) for row in table.index], "headline": headline}
                found.append(table.assign(**labels).reset_index())
                if task in params.run.tasks:
                    cells[f"{title}, {shown[headline][0]}"] = tables.cells(table, headline, marked)
                summary[title] = {row: round(value, 2) for row, value in table[headline].items()}
                if domain is None:
                    costs[task] = {row: _cost(line) for row, line in table.iterrows() if row != TEACHER}
    if both := tables.beside_each_other(cells):
        text, of_run = (["### Tasks beside each other", both, *some] for some in (text, of_run))
    values.draw(swept := values.sweeps(params, reports), headlines)
    distance.draw(params, reports, headlines, set(zip(swept["task"], swept["method"], strict=True)))
    note, everything = " ".join([*said, tables.NOTE]), pd.concat(found)
    with replacing(paths.RESULTS / "report.html") as temporary:
        temporary.write_text(page("Results", sections, note))
    with replacing(paths.RESULTS / "table.md") as temporary:
        temporary.write_text("\n\n".join([*text, "### What the columns mean", note]) + "\n")
    with replacing(paths.RESULTS / "table.csv") as temporary:
        first = ["task", "method", "marks", "headline"]
        columns = [*first, *(key for key in everything if key not in first)]
        everything[columns].to_csv(temporary, index=False)  # with all digits: a page that takes them rounds once
    write_json(paths.RESULTS / "summary.json", {**summary, COST: costs})
    print("\n\n".join([*of_run, f"All tables: {paths.RESULTS}/table.md; with figures, sortable: {paths.RESULTS}/report.html"]))


def _described(params: Params, rows: dict[str, Any]) -> pd.DataFrame:
    """Of each row what it is, and where, when in the code's history, how long and at what precision its runs were made."""
    lines = []
    for row, known in rows.items():
        runs = [found["made"] for found in known.get("seeds", {}).values()] or [known["made"]]
        what = described(params, row) if row in params.rows else ("the task's teacher" if row == TEACHER else "–")
        facts = {key: ", ".join(dict.fromkeys(str(run[key]) for run in runs if key in run)) for key in MADE}
        seconds = [run["seconds"] for run in runs if "seconds" in run]
        lines.append({"row": row, "what it is": what, **facts, "seconds a run": round(sum(seconds) / max(len(seconds), 1))})
    return pd.DataFrame(lines)


def in_order(rows: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """The teacher, then rows as params.yaml has them, then those that it no longer names."""
    names = [TEACHER, *here.get("rows", {})]
    return {row: rows[row] for row in sorted(rows, key=lambda row: names.index(row) if row in names else len(names))}


def marks(row: str, known: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Marks of a row: an upper bound; a schedule of its own; made by other code or parameters than those that are `here`."""
    now = {key: value for key, value in here.items() if key != "rows"} | {"distill": here.get("rows", {}).get(row)}
    older = any(identity[stage] != now.get(stage) for identity in records.identities(known) for stage in identity)
    says = {tables.UPPER_BOUND: known.get("upper_bound"), tables.RESCHEDULED: records.schedule(known), tables.OLDER: older}
    return [mark for mark, so in says.items() if so]


def notes(rows: dict[str, Any]) -> list[str]:
    """What is to be said below a table: rows that do not run, schedules that differ, smoke scale, on what rows were made."""
    absent = [f"`{row}` {known['why_not']}" for row, known in rows.items() if "why_not" in known]
    made = {row: [found["made"] for found in known.get("seeds", {}).values()] for row, known in rows.items()}
    own = [f"`{row}` {_own(changes)}" for row, known in rows.items() if (changes := records.schedule(known))]
    smoke = [row for row, known in rows.items() if records.smoke(known)]
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
    return ", ".join(f"{key} {tables.said(own)} ({tables.said(given)})" for key, (given, own) in changes.items())


def _cost(line: Any) -> dict[str, float]:
    return {key: float(f"{line[key]:.4g}") for key in tables.COST if key in line and line[key] == line[key]}


if __name__ == "__main__":
    run_script(main)
