"""Stage `overview`: tables of every task that has been reported, this time or before.

Usage: python -m stages.overview
"""

from typing import Any

import pandas as pd

from stages.kinds import aspect
from stages.reporting import records, tables
from stages.reporting.figures import distance
from stages.settings import paths
from stages.settings.params import COST, TEACHER
from stages.settings.task import STUDENT_DOMAIN
from stages.support.errors import run_script
from stages.support.files import read_json, replacing, write_json


def main() -> None:
    """Write table.md, table.csv, summary.json and the figure of distances, of all files under results/tasks."""
    now = read_json(paths.identities())
    names = [path.stem for path in paths.report("").parent.glob("*.json")]
    text, found, cells, summary, costs = [], [], {}, {}, {}
    said: dict[str, None] = {}
    reports: distance.Reports = {}
    headlines: dict[str, str] = {}
    for task in sorted(names, key=lambda name: (list(now).index(name) if name in now else len(now), name)):
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
                text += [f"### {title}", tables.to_markdown(table, shown, called), *below]
                labels = {"task": title, "marks": [" ".join(marked[row]) for row in table.index], "headline": headline}
                found.append(table.assign(**labels).reset_index())
                cells[f"{title}, {shown[headline][0]}"] = tables.cells(table, headline, marked)
                summary[title] = {row: round(value, 2) for row, value in table[headline].items()}
                if domain is None:
                    costs[task] = {row: _cost(line) for row, line in table.iterrows() if row != TEACHER}
    if both := tables.beside_each_other(cells):
        text = ["### Tasks beside each other", both, *text]
    everything = pd.concat(found)
    with replacing(paths.RESULTS / "table.md") as temporary:
        temporary.write_text("\n\n".join([*text, " ".join([*said, tables.NOTE])]) + "\n")
    with replacing(paths.RESULTS / "table.csv") as temporary:
        first = ["task", "method", "marks", "headline"]
        everything[[*first, *(key for key in everything if key not in first)]].to_csv(temporary, index=False, float_format="%.5g")
    write_json(paths.RESULTS / "summary.json", {**summary, COST: costs})
    distance.draw(reports, headlines)
    print("\n\n".join(text))


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
