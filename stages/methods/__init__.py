"""The methods: one file each, named after it, with a class `Method`. A row of a table is a method or a variant of one."""

from stages.methods.bases.method import IN_DOMAIN, Method, MethodParams
from stages.settings import plans
from stages.settings.params import Params
from stages.settings.plans import Plan
from stages.support.plugins import plugin
from stages.support.sections import check

FOLDER = "stages.methods"


def method_class(params: Params, row: str) -> type[Method]:
    """The class of the method that `row` runs; raises UserError for an unknown row."""
    found: type[Method] = plugin(FOLDER, params.method_of(row), "Method", "method")
    return found


def section(params: Params, row: str, task: str) -> MethodParams:
    """The checked parameters of `row` for `task`, at the scale of `run.scale`."""
    model = method_class(params, row).Params
    checked: MethodParams = check(model, params.values(row, task, model.model_fields), f"row.{task}.{row}")
    if params.run.scale != "smoke":
        return checked
    schedule = checked.schedule.smoke() if checked.schedule else None
    return checked.smoke().model_copy(update={"schedule": schedule})


def plan(params: Params, row: str, task: str, section: MethodParams) -> Plan:
    """The plan of training a student of `task` with the method of `row`, whose checked parameters are `section`."""
    return plans.of_row(params, row, task, section.model_dump())


def upper_bound(method: type[Method]) -> bool:
    """Whether a method sees what a user does not have."""
    return IN_DOMAIN in method.sees
