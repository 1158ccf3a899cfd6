"""Stage `plan`: write what every run is: its parameters and the code that it can load.

Runs depend on these small files instead of on folders of code, so an edit re-runs what it changes and nothing else.
Usage: python -m stages.plan
"""

import torch

from stages import methods
from stages.curation.rules import open_rule
from stages.families.opening import DATA
from stages.families.teaching import as_template
from stages.kinds import check_form
from stages.networks.build import find
from stages.networks.weights import Blueprint, architecture
from stages.settings import paths, plans
from stages.settings.params import IMPRESS, STAGES, Params, load
from stages.settings.plans import Plan
from stages.settings.task import STUDENT_DOMAIN
from stages.support.errors import UserError, run_script
from stages.support.files import write_json
from stages.support.parts import nearest

CLASSES = tuple("0123456789")  # how many there are is known once images are read; it changes little
STEM = "a bare name such as resnet18 is for images of 32 pixels, torchvision.resnet18 for larger ones"


def main() -> None:
    """Write a plan for each stage and each row of the tasks in `run`, and the identities of all rows of all tasks."""
    params = load()
    identities = {  # and every row's section checked for every task
        name: {**plans.around(params, name), "rows": {row: of_row(params, row, name).identity for row in params.rows}}
        for name in params.tasks
    }
    for name, task in params.tasks.items():
        check_form(task, f"task.{name}")
        open_rule(name, task.curate)
        for one in task.parts:
            find(one.network, f"params.yaml: task.{name}.{'teacher' if task.teacher else 'teachers'}.network: ")
        find(task.distill.student.network, f"params.yaml: task.{name}.distill.student.network: ")
    for row in params.rows:
        if unknown := methods.method_class(params, row).sees - (DATA | {STUDENT_DOMAIN}):
            raise UserError(
                f"stages/methods/{params.method_of(row)}.py: `sees` names {min(unknown)}; {nearest(min(unknown), DATA)}"
            )
    for name in params.run.tasks:
        tell_costs(params, name)
        for stage in STAGES:
            plans.of_stage(params, stage, name).write(paths.plan(name, stage))
        for row in params.run.methods:
            of_row(params, row, name).write(paths.plan(name, row))
    for name in params.impress.tasks:
        as_template(params, name)
        for stage in IMPRESS:
            plans.of_stage(params, stage, name).write(paths.plan(name, stage))
    write_json(paths.identities(), identities)
    plans.of_overview(params).write(paths.overview_plan())
    run = params.run
    print(f"{len(run.tasks) * len(run.methods) * len(run.seeds)} students of {', '.join(run.tasks)}: {', '.join(run.methods)}")


def tell_costs(params: Params, name: str) -> None:
    """Print what the networks of a task of images cost for one of them; raise UserError for one that cannot take them."""
    task = params.task(name)
    if task.image is None:
        return
    networks = {"teacher" if task.teacher else f"teachers.{i}": part.network for i, part in enumerate(task.parts)}
    networks["distill.student"] = task.distill.student.network
    said, macs = list[str](), list[int]()
    for key, network in networks.items():
        shape = task.image.shape
        try:
            net = Blueprint(network, CLASSES, shape).build()
            for shape in dict.fromkeys((task.image.trained.shape, task.image.shape)):
                cost = architecture(net, torch.zeros(1, *shape))
        except UserError as error:
            raise UserError(f"params.yaml: task.{name}.{key}: {error}") from None
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"params.yaml: task.{name}.{key}: '{network}' takes no images of {shape[1]} x {shape[2]} "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); take another network or size"
            ) from None
        said.append(f"{network} {cost['params']:,} parameters, {cost['macs']:,} MACs")
        macs.append(cost["macs"])
    *guides, student = said
    print(f"{name}: {'; '.join(guides)}; student {student} for an image; counted with ten classes")
    if macs[-1] > sum(macs[:-1]):
        print(f"{name}: the student is dearer than the teacher; {STEM}")


def of_row(params: Params, row: str, task: str) -> Plan:
    """The plan of training a student of `task` with the method of `row`."""
    return methods.plan(params, row, task, methods.section(params, row, task))


if __name__ == "__main__":
    run_script(main)
