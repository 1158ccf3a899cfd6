"""Write README's tables, between their marks: results as `overview` wrote them, and methods as their code has them.

A mark is a comment `<!-- results: TITLE, TITLE -->`, with titles of results/table.md, or `<!-- methods -->`; the part ends with
`<!-- end -->`. Not a stage: run it when results that README shows were made anew. Usage: python -m stages.readme README.md
"""

import importlib
import re
from pathlib import Path

import pandas as pd

from stages import methods
from stages.engine.teacher import BATCH_NORM, EMBEDDINGS, GRADIENT, STAGES
from stages.families.method import IN_DOMAIN, LABELS, POOL
from stages.families.refusal import why_not
from stages.reporting.tables import said
from stages.settings import paths
from stages.settings.params import Params
from stages.settings.task import STUDENT_DOMAIN
from stages.support.errors import UserError, run_script
from stages.support.files import replacing

CAN = {BATCH_NORM: "batch normalisation", STAGES: "named stages", GRADIENT: "gradients", EMBEDDINGS: "embeddings as inputs"}
SEES = {POOL: "the OOD pool", IN_DOMAIN: "in-domain images", LABELS: "their labels", STUDENT_DOMAIN: "labelled student domain"}
MARK = re.compile(r"(<!-- (results|methods)(?:: (.*?))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def main(file: str) -> None:
    """Replace what stands between the marks of `file`."""
    text = Path(file).read_text()
    with replacing(Path(file)) as temporary:
        temporary.write_text(MARK.sub(lambda match: f"{match[1]}{_part(match[2], match[3])}\n{match[5]}", text))


def _part(what: str, titles: str | None) -> str:
    return results(paths.RESULTS / "table.md", (titles or "").split(", ")) if what == "results" else table(methods.load_all())


def results(path: Path, titles: list[str]) -> str:
    """The sections of a table.md called `titles`, and the note at its end; raises UserError for a title that it has not."""
    *sections, last = path.read_text().strip().split("\n\n### ")
    last, _, note = last.rpartition("\n\n")
    found = {section.removeprefix("### ").partition("\n")[0]: section.removeprefix("### ") for section in (*sections, last)}
    if missing := [title for title in titles if title not in found]:
        raise UserError(f"{path} has no table '{missing[0]}'; it has {', '.join(found)}")
    return "\n\n".join([*(f"### {found[title]}" for title in titles), note])


def table(params: Params) -> str:
    """Every row of params.yaml: what its method sees, what the teacher must be able to do, what it is."""
    lines, task = [], next(iter(params.tasks))
    for row in params.rows:
        method, section = methods.method_class(params, row), methods.section(params, row, task)
        kind, data = method.of_kind, SEES.keys()
        needs = [what for word, what in CAN.items() if why_not(method, section, kind, CAN.keys() - {word}, data)]
        sees = [what for word, what in SEES.items() if why_not(method, section, kind, CAN.keys(), data - {word})]
        name = f"`{row}`" + (" †" if methods.upper_bound(method) else "")
        lines.append([name, ", ".join(sees) or "nothing", ", ".join(needs) or "–", _what(params, row)])
    return str(
        pd.DataFrame(lines, columns=["row", "sees", "asks of the teacher", "what it is"]).to_markdown(
            index=False, disable_numparse=True
        )
    )


def _what(params: Params, row: str) -> str:
    method = params.method_of(row)
    if method != row:
        changed = ", ".join(f"{key} {said(value)}" for key, value in params.rows[row].items() if key != "of")
        return f"`{method}` with {changed}"
    line = (importlib.import_module(f"{methods.FOLDER}.{method}").__doc__ or "").strip().splitlines()[0]
    return re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", line)


if __name__ == "__main__":
    run_script(main, "file")
