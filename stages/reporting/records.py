"""What is known of every row of a task: results/tasks/TASK.json."""

from typing import Any

from stages.settings.params import TEACHER
from stages.settings.paths import FULL, Places, results
from stages.support.errors import UserError
from stages.support.files import read_json

# row -> {upper_bound, seeds: {seed: scores and `made`}}, or {why_not, made}; a variant has `of`, its section in the catalogue
Rows = dict[str, Any]
TIMES = ("ms", "synthesis_s", "distillation_s")  # of what is known of a seed, in milliseconds and seconds: no two are the same
Reports = dict[str, dict[str, Any]]  # by task, what `load` gives


def load(task: str, scale: str = FULL) -> dict[str, Any]:
    """What was reported of `task`: `kind`, `headline` score and `rows`, none where it has not been; what else `report` wrote.

    Raises UserError for a file of another form.
    """
    path = Places(task).report(scale)
    if not path.exists():
        return {"kind": "", "headline": "", "rows": {}}
    content: dict[str, Any] = read_json(path)
    if not isinstance(content.get("rows"), dict) or not {"kind", "headline"} <= content.keys():
        raise UserError(f"{path} has not the form that stage `report` writes; remove it, and run what it reported again")
    return content


def everything(scale: str = FULL) -> Reports:
    """What was reported of every task that has rows."""
    names = sorted(path.stem for path in (results(scale) / "tasks").glob("*.json"))
    return {name: found for name in names if (found := load(name, scale))["rows"]}


def scales(scale: str) -> list[str]:
    """Whose tables a run of `scale` writes: those of full scale always, for its records are in git."""
    return list(dict.fromkeys([FULL, scale]))


def merged(earlier: Rows, rows: Rows) -> Rows:
    """All rows, those that ran now in their new form; of their earlier seeds, those made in the same way from one teacher.

    Where a seed was made again, and its weights and scores came out the same to the bit, what it was made by before counts as the
    way of today, for the row's other seeds too.
    """
    result = {**earlier, **rows}
    for row, known in rows.items():
        before = earlier.get(row, {})
        if "seeds" in known and "seeds" in before:
            now, teachers = identities(known), taught_by(known)
            again = [seed for seed in known["seeds"] if seed in before["seeds"]]
            proven = [
                before["seeds"][seed]["made"]["identity"] for seed in again if _same(before["seeds"][seed], known["seeds"][seed])
            ]
            kept = {
                seed: found if found["made"]["identity"] in now else found | {"made": found["made"] | {"identity": now[0]}}
                for seed, found in before["seeds"].items()
                if found["made"]["identity"] in [*now, *proven] and found["made"].get("teacher") in {None, *teachers}
            }
            result[row] = {**known, "seeds": {**kept, **known["seeds"]}}
    return result


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs have the same weights, known by their digests, and the same scores in all that both were scored by."""
    common = (one.keys() & other.keys()) - {"made", *TIMES}
    return one["made"].get("weights", 0) == other["made"].get("weights") and all(one[key] == other[key] for key in common)


def schedule(known: dict[str, Any]) -> dict[str, Any]:
    """What a row changes of the task's schedule: key -> [the task's, its own]."""
    changes: dict[str, Any] = next((found["made"].get("schedule", {}) for found in known.get("seeds", {}).values()), {})
    return changes


def taught_by(known: dict[str, Any]) -> set[str]:
    """Digests of the teachers whose students a row has, as far as they are known."""
    return {found["made"]["teacher"] for found in known.get("seeds", {}).values() if "teacher" in found["made"]}


def teachers(rows: Rows) -> set[str]:
    """Digests of the teachers' weights that stand beside the `rows`."""
    runs = rows.get(TEACHER, {}).get("seeds", {}).values()
    return {found["made"]["weights"] for found in runs if "weights" in found["made"]}


def identities(known: dict[str, Any]) -> list[dict[str, str]]:
    """By stage, of every seed of a row."""
    made = [known["made"]] if "made" in known else [found["made"] for found in known["seeds"].values()]
    return [one["identity"] for one in made]
