"""Write a page's tables, between their marks: results as `overview` wrote them, and methods as their code has them.

A mark is a comment, and what it stands for ends with `<!-- end -->`:

- `<!-- rows: TASK, TASK: ROW, ROW -->`: rows by tasks;
- `<!-- teachers: TASK + TASK, TASK + TASK: ROW, ROW -->`: rows by groups of tasks that differ in the teacher;
- `<!-- paired: TASK + TASK: ROW - ROW, ROW - ROW -->`: differences seed by seed, or teacher by teacher;
- `<!-- methods: ROW, ROW -->`: what methods need;
- `<!-- makes -->`: which method runs with a teacher of which make.

Not a stage: run it when results that a page shows were made anew.
Usage: python -m stages.tools.pages README.md
"""

import math
import re
from pathlib import Path

import pandas as pd

from stages import kinds, methods
from stages.engine.teacher import ASKED, BATCH_NORM, EMBEDDINGS, FEATURES, GRADIENT, MAPS, STAGES
from stages.jobs.requirements import why_not
from stages.methods._described import described
from stages.methods.bases.method import IN_DOMAIN, LABELS, POOL
from stages.reporting import records, tables
from stages.reporting.intervals import half_interval
from stages.settings import paths
from stages.settings.params import TEACHER, Params, load
from stages.settings.task import STUDENT_DOMAIN
from stages.support.errors import UserError, run_script
from stages.support.files import replacing
from stages.support.plugins import nearest, plugin, plugins

CAN = {
    FEATURES: "a known last layer",
    BATCH_NORM: "batch normalisation",
    MAPS: "stages",
    STAGES: "named stages",
    GRADIENT: "gradients",
    EMBEDDINGS: "embeddings as inputs",
}
ANSWERS = "answers at any time"
SEES = {POOL: "the OOD pool", IN_DOMAIN: "in-domain images", LABELS: "their labels", STUDENT_DOMAIN: "labelled student domain"}
# What a teacher of each make can (`Teacher.can`), by what users call it.
MAKES = {
    "ours, torchvision's ResNets": {ASKED, FEATURES, GRADIENT, BATCH_NORM, MAPS, STAGES},
    "others with batch norm": {ASKED, FEATURES, GRADIENT, BATCH_NORM},
    "others without (ViT, ConvNeXt)": {ASKED, FEATURES, GRADIENT},
    "`exported` (.pt2), `torchscript`": {ASKED, GRADIENT},
    "`onnx`": {ASKED},
    "`answers`": set[str](),
}
MARK = re.compile(r"(<!-- (rows|paired|teachers|methods|makes)(?:: (.*?))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def main(file: str) -> None:
    """Replace what stands between the marks of `file`."""
    text = Path(file).read_text()
    with replacing(Path(file)) as temporary:
        temporary.write_text(MARK.sub(lambda match: f"{match[1]}{_part(match[2], match[3])}\n{match[5]}", text))


def _part(what: str, titles: str | None) -> str:
    if what == "methods":
        return table(load(), (titles or "").split(", "))
    if what == "makes":
        return makes(load())
    tasks, _, rows = (titles or "").partition(": ")
    if what == "paired":
        return paired(tasks.split(" + "), rows.split(", "))
    if what == "teachers":
        return by_teacher(tasks.split(", "), rows.split(", "))
    return beside(paths.RESULTS / "table.csv", tasks.split(", "), rows.split(", "))


def beside(path: Path, tasks: list[str], rows: list[str]) -> str:
    """Rows by tasks, out of a table.csv: the mean of the headline score, half its 95 % interval, n, and marks.

    Where every row has the mark of older code, a line says so instead. A row that a task has not stands with a dash. Raises
    UserError for a task that is not there.
    """
    known = pd.read_csv(path, keep_default_na=False, na_values={"ci95": [""]})
    if missing := set(tasks) - set(known["task"]):
        raise UserError(f"{path} has no task '{min(missing)}'; it has {', '.join(known['task'].unique())}")
    wide = pd.DataFrame("–", index=pd.Index(rows, name="row"), columns=tasks)
    found = known[known["task"].isin(tasks) & known["method"].isin(rows)]
    if all_older := len(found) > 0 and bool(found["marks"].str.contains(tables.OLDER).all()):
        found = found.assign(marks=found["marks"].str.replace(tables.OLDER, "").str.strip())
    for line in found.to_dict("records"):
        half = "" if pd.isna(line["ci95"]) else f" ± {line['ci95']:.2f}"
        n = "" if line["method"] == TEACHER else f" (n={int(line['n'])})"
        wide.loc[line["method"], line["task"]] = f"{float(line[line['headline']]):.2f}{half}{n} {line['marks']}".strip()
    below = f"\n\nAll of these were made by other code or parameters than now ({tables.OLDER})." if all_older else ""
    return f"{wide.to_markdown(disable_numparse=True)}{below}"


def paired(tasks: list[str], pairs: list[str]) -> str:
    """Row minus row of the headline score: mean, half its 95 % interval, n. Over the seeds that both rows have.

    Of several `tasks`, which differ in the teacher: over these, of each the mean over its seeds.
    Raises UserError for a row that a task has not.
    """
    lines = []
    for pair in pairs:
        one, other = pair.split(" - ")
        found = []
        for task in tasks:
            mine, theirs = _scores(task, one), _scores(task, other)
            found.append([mine[seed] - theirs[seed] for seed in mine if seed in theirs])
        lines.append([pair, *_interval(found, sign="+")])
    frame = pd.DataFrame(lines, columns=["difference, points", tasks[0], "n"])
    return str(frame.to_markdown(index=False, disable_numparse=True))


def by_teacher(groups: list[str], rows: list[str]) -> str:
    """Rows by groups of tasks, which differ in the teacher (`TASK + TASK`): mean, half its interval over teachers, n, and marks.

    Of each teacher the mean over its seeds. A row that a group's first task has not stands with a dash. Raises UserError where
    only some tasks of a group have it.
    """
    lines = []
    for row in rows:
        cells = []
        for group in groups:
            first, *others = group.split(" + ")
            if (known := records.load(first)["rows"].get(row)) is None:
                cells.append("–")
                continue
            text, n = _interval([list(_scores(task, row).values()) for task in (first, *others)])
            says = {tables.UPPER_BOUND: known["upper_bound"], tables.RESCHEDULED: records.schedule(known)}
            cells.append(" ".join([f"{text} (n={n})", *(mark for mark, so in says.items() if so)]))
        lines.append([row, *cells])
    frame = pd.DataFrame(lines, columns=["row", *(group.split(" + ")[0] for group in groups)])
    return str(frame.to_markdown(index=False, disable_numparse=True))


def _scores(task: str, row: str) -> dict[str, float]:
    """The headline score of a row by seed."""
    content = records.load(task)
    if "seeds" not in content["rows"].get(row, {}):
        raise UserError(f"results/tasks/{task}.json has no seeds of '{row}'; {nearest(row, content['rows'])}")
    return {seed: found[content["headline"]] for seed, found in content["rows"][row]["seeds"].items()}


def _interval(found: list[list[float]], sign: str = "") -> tuple[str, str]:
    """The mean with half its 95 % interval, and n: over the values of one list, or over the means of several."""
    values = found[0] if len(found) == 1 else [sum(one) / len(one) for one in found if one]
    half = half_interval(values)
    return f"{sum(values) / len(values):{sign}.2f}" + ("" if math.isnan(half) else f" ± {half:.2f}"), str(len(values))


def table(params: Params, rows: list[str]) -> str:
    """Some methods: the kinds of task that each is for, what it sees, what it asks of the teacher, its variants."""
    lines, task = [], next(iter(params.catalogue.tasks))
    has = {name: plugin(kinds.FOLDER, name, "Kind", "kind of task").has for name in plugins(kinds.FOLDER)}
    for row in rows:
        method, section = methods.method_class(params, row), methods.section(params, row, task)
        kind, data, can = method.of_kind, SEES.keys(), {ASKED, *CAN}
        needs = [what for word, what in CAN.items() if why_not(method, section, kind, can - {word}, data)]
        asks = ANSWERS if why_not(method, section, kind, can - {ASKED}, data) else "–"
        sees = [what for word, what in SEES.items() if why_not(method, section, kind, can, data - {word})]
        name = f"`{row}`" + (" †" if methods.upper_bound(method) else "")
        tasks = [kind for kind, words in has.items() if not why_not(method, section, words, can, data)]
        what = re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", described(params, row))
        variants = ", ".join(f"`{other}`" for other in params.in_order() if other != row and params.method_of(other) == row)
        lines.append([name, what, ", ".join(sees) or "nothing", ", ".join(needs) or asks, ", ".join(tasks), variants])
    columns = ["row", "what it is", "sees", "asks of the teacher", "kinds of task", "variants"]
    return _narrow(pd.DataFrame(lines, columns=columns))


def _narrow(table: pd.DataFrame) -> str:
    """As Markdown: columns as wide as their longest cell cannot be read as text."""
    wide = str(table.to_markdown(index=False, disable_numparse=True))
    return re.sub(r"-{4,}", "---", re.sub(r" {2,}", " ", wide))


def makes(params: Params) -> str:
    """Methods of images of one label, by the makes of teachers that they run with."""
    found: dict[tuple[str, ...], list[str]] = {}
    task, has = next(iter(params.catalogue.tasks)), frozenset({kinds.IMAGES, kinds.ONE_LABEL})
    for row in filter(lambda row: params.method_of(row) == row, params.in_order()):
        method, section = methods.method_class(params, row), methods.section(params, row, task)
        if method.of_kind <= has:
            runs = [why_not(method, section, has, can, SEES.keys()) is None for can in MAKES.values()]
            found.setdefault(tuple("yes" if one else "–" for one in runs), []).append(f"`{row}`")
    lines = [[", ".join(rows), *runs] for runs, rows in sorted(found.items(), key=lambda pair: -pair[0].count("yes"))]
    return _narrow(pd.DataFrame(lines, columns=["rows", *MAKES]))


if __name__ == "__main__":
    run_script(main, "file")
