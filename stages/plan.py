"""Stage `plan`: write what every run is: its parameters and the code that it can load.

Runs depend on these small files instead of on folders of code, so an edit re-runs what it changes and nothing else.
Usage: python -m stages.plan
"""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from stages import methods
from stages.curation.rules import open_rule
from stages.datasets.sources.shards import Source as Shards
from stages.jobs import estimates
from stages.jobs.estimates import Estimate
from stages.jobs.imported import check_named
from stages.jobs.setup import DATA
from stages.jobs.sharded import check_rule
from stages.jobs.size import CLASSES, costs
from stages.jobs.teaching import as_template
from stages.kinds import check_form
from stages.methods import _identities as identities
from stages.methods._identities import of_row
from stages.networks.build import find
from stages.reporting import records
from stages.settings import paths, plans
from stages.settings.catalogue import FOLDER
from stages.settings.params import EXPORT, IMPRESS, STAGES, Params, load
from stages.settings.paths import Places
from stages.settings.task import LABELLED
from stages.settings.yaml import Loader
from stages.support.errors import UserError, run_script
from stages.support.files import write_json
from stages.support.plugins import nearest

CACHE = Path(".dvc/cache/files/md5")  # a clone of the repository begins without one
MANY = 10**12  # multiply-accumulates, from where on a training takes minutes on a CPU
CHEAPEST, TOLD = "kd_noise", "stages.tools.estimate"  # a row that asks T of every image once, of a teacher of any make
SMALL = 48  # pixels, up to which our networks take whole images as they are
STEM = "a bare name such as resnet18 is for images of 32 pixels, torchvision.resnet18 for larger ones"


def main() -> None:
    """Write a plan for each stage and each row of the tasks in `run`, and the identities of all that runs or was reported."""
    params = load()
    tell_files(params)
    for name in params.run.tasks:
        task = params.task(name)
        check_form(task, f"task.{name}")
        if task.measured != LABELLED and not task.names and task.teacher:
            check_named(task.teacher, f"task.{name}.teacher")
        rule = open_rule(name, task.curate)
        if isinstance(task.ood, Shards):
            check_rule(name, rule)
        for place, one in enumerate(task.parts):
            find(one.network, f"task.{name}.{'teacher' if task.teacher else f'teachers.{place}'}.network: ")
        find(task.distill.student.network, f"task.{name}.distill.student.network: ")
    for row in params.run.methods:
        if unknown := methods.method_class(params, row).sees - DATA:
            raise UserError(
                f"stages/methods/{params.method_of(row)}.py: `sees` names {min(unknown)}; {nearest(min(unknown), DATA)}"
            )
    planned = {name: {row: of_row(params, row, name) for row in params.run.methods} for name in params.run.tasks}
    for name, rows in planned.items():
        tell_costs(params, name)
        for stage in STAGES:
            plans.of_stage(params, stage, name).write(Places(name).plan(stage))
        for row, plan in rows.items():
            plan.write(Places(name).plan(row))
    for name in params.impress.tasks:
        as_template(params, name)
        for stage in IMPRESS:
            plans.of_stage(params, stage, name).write(Places(name).plan(stage))
    for name in params.export.tasks:
        plans.of_stage(params, EXPORT, name).write(Places(name).plan(EXPORT))
    kinds, known = {params.task(name).kind for name in params.run.tasks}, dict[str, Any]()
    for scale in records.scales(params.run.scale):
        reported = records.everything(scale)
        known[scale] = identities.known(replace(params, run=params.run.model_copy(update={"scale": scale})), reported)
        kinds |= {report["kind"] for report in reported.values()}
    write_json(paths.identities(), known)
    plans.of_overview(params, sorted(kinds)).write(paths.overview_plan())
    tell_cached(params)
    run = params.run
    count = len(run.tasks) * len(run.methods) * len(run.seeds)
    print(f"{count} student{'s' if count > 1 else ''} of {', '.join(run.tasks)}: {', '.join(run.methods)}")


def tell_files(params: Params) -> None:
    """Print which files of tasks this run does without, and which a copy that git makes would lack."""
    for reason in params.catalogue.broken.values():
        print(f"{reason}; this run does not need it")
    git = ["git", "ls-files", "--others", "--exclude-standard", "--", str(FOLDER), "stages"]
    try:
        untracked = subprocess.run(git, capture_output=True, text=True, check=False).stdout.split()
    except OSError:  # there is no git
        return
    if untracked:
        names = " ".join(untracked)
        print(f"git does not know {names}: `dvc exp run --temp` and `--queue` would not have it; commit it")


def tell_cached(params: Params) -> None:
    """Print how many finished students are in DVC's cache alone, since today's `run` does not name them."""
    lock = Path("dvc.lock")
    stages = (yaml.load(lock.read_text(), Loader) or {}).get("stages", {}) if lock.exists() else {}
    outs = [out for name, entry in stages.items() if name.startswith("distill@") for out in entry.get("outs", [])]
    made = [Path(out["path"]) for out in outs if (CACHE / out["md5"][:2] / out["md5"][2:]).exists()]
    today = {
        Places(task).student(row, seed) for task in params.run.tasks for row in params.run.methods for seed in params.run.seeds
    }
    away = [path for path in made if paths.STUDENTS in path.parents and path not in today and not path.exists()]
    if away:
        rows = ", ".join(dict.fromkeys("/".join(path.parts[-3:-1]) for path in away))
        print(f"{len(away)} finished students are only in DVC's cache ({rows}); `dvc repro` with these in `run` brings them back")


def tell_costs(params: Params, name: str) -> None:
    """Print what the networks of a task of images cost for one of them; raise UserError for one that cannot take them."""
    task = params.task(name)
    if task.image is None:
        return
    found = costs(task, name)
    networks = [*(part.network for part in task.parts), task.distill.student.network]
    *guides, student = (
        f"{network} {cost['params']:,} parameters, {cost['macs']:,} MACs"
        for network, cost in zip(networks, found.values(), strict=True)
    )
    print(f"{name}: {'; '.join(guides)}; student {student} for an image, with {len(CLASSES)} classes")
    *macs, own = (cost["macs"] for cost in found.values())
    tell_time(params, name, own * task.distill.student_steps * task.distill.batch)
    if own > sum(macs) > 0:  # answers that were given once cost nothing
        small = "." not in networks[-1] and max(task.image.shape) > SMALL
        print(f"{name}: the student is dearer than the teacher" + (f"; {STEM}" if small else ""))


def tell_time(params: Params, name: str, macs: int) -> None:
    """Print how long a student takes here at the least, by a probe of seconds, where its `macs` for B images a step are many."""
    if macs < MANY or any(part.foreign for part in params.task(name).parts):
        return
    least = estimates.student(params, name, CHEAPEST, few=True)
    if isinstance(least, Estimate) and least.seconds > 60:
        print(f"{name}: a student takes {least.seconds / 60:,.0f} minutes here, or longer; `python -m {TOLD}` says it row by row")


if __name__ == "__main__":
    run_script(main)
