"""Stage `overview`: tables of every task that has been reported, this time or before.

Usage: python -m stages.overview
"""

from typing import Any

import pandas as pd

from stages.kinds import aspect
from stages.reporting import tables
from stages.settings import paths
from stages.settings.params import TEACHER
from stages.settings.paths import STUDENT_DOMAIN
from stages.support.errors import run_script
from stages.support.files import read_json, replacing, write_json


def main() -> None:
    """Write table.md, table.csv and summary.json of all files under results/tasks."""
    now = read_json(paths.identities())
    reports = {path.stem: read_json(path) for path in paths.report("").parent.glob("*.json")}
    found, headlines, text, summary = {}, {}, [], {}
    costs: dict[str, Any] = {}
    for task in sorted(reports, key=lambda name: (list(now).index(name) if name in now else len(now), name)):
        report, measure = reports[task], aspect(reports[task]["kind"], "scores")
        rows = in_order(report["rows"], now.get(task, {}))
        shown, headline = tables.columns(measure.COLUMNS), next(iter(measure.COLUMNS))
        names, notes = called(rows, now.get(task, {}))
        for title, domain, baseline in (
            (task, None, tables.BASELINE),
            (f"{task}-{STUDENT_DOMAIN}", STUDENT_DOMAIN, tables.ALONE),
        ):
            runs = tables.runs(rows, domain)
            if runs.empty:
                continue
            table = found[title] = tables.summarise(runs, headline, baseline)
            headlines[title] = headline
            absent = [row for row, known in rows.items() if "why_not" in known]
            text += [f"### {title}", tables.to_markdown(table, shown, names), *notes]
            if absent:
                text.append("n/a: " + "; ".join(f"`{row}` {rows[row]['why_not']}" for row in absent) + ".")
            summary[title] = {row: round(value, 2) for row, value in table[headline].items()}
            if domain is None:
                costs[task] = {row: _cost(line) for row, line in table.iterrows() if row != TEACHER}
    if both := tables.beside_each_other(found, headlines):
        text = ["### Tasks beside each other", both, *text]
    everything = pd.concat([table.assign(task=title).reset_index() for title, table in found.items()])
    with replacing(paths.RESULTS / "table.md") as temporary:
        temporary.write_text("\n\n".join([*text, tables.NOTE]) + "\n")
    with replacing(paths.RESULTS / "table.csv") as temporary:
        first = ["task", "method"]
        everything[[*first, *(key for key in everything if key not in first)]].to_csv(temporary, index=False, float_format="%.5g")
    write_json(paths.RESULTS / "summary.json", {**summary, "cost": costs})
    print("\n\n".join(text))


def in_order(rows: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The teacher, then rows as params.yaml has them, then those that it no longer names."""
    names = [TEACHER, *now.get("rows", {})]
    return {row: rows[row] for row in sorted(rows, key=lambda row: names.index(row) if row in names else len(names))}


def called(rows: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """How a table calls its rows, with their marks, and what is to be said of their making below it."""
    names, made_by, smoke = {}, {}, []
    for row, known in rows.items():
        marks = [tables.UPPER_BOUND] * known.get("upper_bound", False)
        for found in known.get("seeds", {}).values():
            made = found["made"]
            if row != TEACHER and older(row, made["identity"], now) and tables.OLDER not in marks:
                marks.append(tables.OLDER)
            if made["scale"] == "smoke" and row not in smoke:
                smoke.append(row)
            origin = f"{made['device']}, torch {made['versions']['torch']}, revision {made['revision']}"
            made_by.setdefault(origin, {})[row] = None
        names[row] = " ".join([row, *marks])
    if len(made_by) == 1:
        notes = [f"Made on {next(iter(made_by))}."]
    else:
        notes = ["Made on " + "; ".join(f"{origin}: {', '.join(names)}" for origin, names in made_by.items()) + "."]
    return names, [*([tables.SMOKE.format(rows=", ".join(smoke))] if smoke else []), *notes]


def older(row: str, identity: dict[str, str], now: dict[str, Any]) -> bool:
    """Whether a row, or what it stands on, was made by other code or parameters than those beside us."""
    here = {**{key: value for key, value in now.items() if key != "rows"}, "distill": now.get("rows", {}).get(row)}
    return identity != here


def _cost(line: Any) -> dict[str, float]:
    return {key: float(f"{line[key]:.4g}") for key in tables.COST if key in line and line[key] == line[key]}


if __name__ == "__main__":
    run_script(main)
