"""The identities that the tables need: of each row that runs, and of each that was reported before."""

from dataclasses import replace
from typing import Any

from stages import methods
from stages.settings import plans
from stages.settings.params import TEACHER, Params
from stages.settings.plans import Plan
from stages.support.errors import UserError


def of_row(params: Params, row: str, task: str) -> Plan:
    """The plan of training a student of `task` with the method of `row`."""
    return methods.plan(params, row, task, methods.section(params, row, task))


def with_reported(params: Params, rows: dict[str, Any]) -> Params:
    """The parameters with the variants among the reported `rows` that the catalogue no longer has, as they were.

    Of methods that are there still.
    """
    gone = {
        row: known["of"] for row, known in rows.items() if row not in params.rows and known.get("of", {}).get("of") in params.rows
    }
    return replace(params, extra=gone)


def known(params: Params, reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By task the identities of its stages and, under `rows`, of its rows; of the run's tasks and of those in `reports`.

    What today's catalogue and code no longer have, or refuse, has none.
    """
    found: dict[str, Any] = {}
    for task in dict.fromkeys([*params.run.tasks, *reports]):
        reported = reports.get(task, {}).get("rows", {})
        own = with_reported(params, reported)
        try:
            found[task] = {**plans.around(own, task), "rows": {}}
        except UserError:
            if task in params.run.tasks:
                raise
            continue
        running = params.run.methods if task in params.run.tasks else []
        for row in dict.fromkeys([*running, *(row for row in reported if row != TEACHER)]):
            try:
                found[task]["rows"][row] = of_row(own, row, task).identity
            except UserError:
                if row in running:
                    raise
    return found
