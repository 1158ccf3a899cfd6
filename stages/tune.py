"""Try values of a row's parameters, by one rule for all: six trials at most, a quarter of the student's steps, seed 0.

What counts is the validation split's headline score after the last step; no test split is opened. results/tuning.csv keeps every
trial, and one that it has is not tried again. Not a stage: it wants what `dvc repro curate@TASK` leaves.
Usage: python -m stages.tune TASK ROW 'KEY=VALUE KEY=VALUE; KEY=VALUE'
"""

from dataclasses import replace
from typing import Any

import pandas as pd
import yaml

from stages import methods
from stages.engine import runtime as rt
from stages.engine.checkpoint import key, until_done
from stages.engine.loop import train
from stages.engine.provenance import provenance
from stages.families.method import MethodParams
from stages.families.opening import able, data_of, files, open_probe, open_setting
from stages.families.refusal import why_not
from stages.networks import weights
from stages.settings import params, paths
from stages.settings.params import Loader, Params
from stages.support.errors import UserError, run_script
from stages.support.files import replacing
from stages.support.sections import check

TRIALS, QUARTER, SEED = 6, 4, 0
TUNING = paths.RESULTS / "tuning.csv"


def main(name: str, row: str, trials: str) -> None:
    """Run every trial of `trials` that results/tuning.csv has not, and add it there."""
    settings = params.load()
    settings.task(name)
    tried = pd.read_csv(TUNING, dtype={"trial": str}) if TUNING.exists() else pd.DataFrame()
    sections = {text.strip(): _section(settings, name, row, text) for text in trials.split(";")}
    before = set(tried[(tried["task"] == name) & (tried["row"] == row)]["trial"]) if len(tried) else set()
    if len(before | sections.keys()) > TRIALS:
        raise UserError(
            f"{row} on {name}: {len(before | sections.keys())} trials are more than {TRIALS}, which every method has; "
            f"{TUNING} has {', '.join(sorted(before)) or 'none'}"
        )
    for text, section in sections.items():
        identity = methods.plan(settings, row, name, section).identity
        if len(tried) and (tried["identity"] == identity).any():
            print(f"{row} on {name}: '{text}' was tried already")
            continue
        line = {"task": name, "row": row, "trial": text, **_tried(settings, name, row, section, identity), "identity": identity}
        tried = pd.concat([tried, pd.DataFrame([line])])
        with replacing(TUNING) as temporary:
            tried.to_csv(temporary, index=False)
        print(", ".join(f"{what} {value}" for what, value in line.items()))


def _section(settings: Params, name: str, row: str, text: str) -> MethodParams:
    """The parameters of `row` with the changes in `text`; none where it is a dash."""
    changes: dict[str, Any] = {}
    for word in text.split() if text.strip() != "-" else []:
        what, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"a trial is written KEY=VALUE KEY=VALUE, or - for the values of params.yaml; not '{word}'")
        changes[what] = yaml.load(value, Loader)
    values = settings.values(row, name) | changes
    checked: MethodParams = check(methods.method_class(settings, row).Params, values, f"method.{row}")
    return checked.smoke() if settings.run.scale == "smoke" else checked


def _tried(settings: Params, name: str, row: str, section: MethodParams, identity: str) -> dict[str, Any]:
    task, of, run = settings.task(name), methods.method_class(settings, row), settings.run
    inputs = [paths.teacher(name) / weights.WEIGHTS, *files(task, name, of).values()]
    with (
        rt.running(task.precision or run.precision, run.compile) as runtime,
        until_done(key(f"tune {identity}", SEED, runtime, inputs), run, runtime.rank) as checkpoint,
    ):
        setting, _ = open_setting(name, task, of, SEED, runtime)
        if reason := why_not(of, section, setting.kind.has, able(setting), data_of(task)):
            raise UserError(f"{row} does not run on {name}: it {reason}")
        steps = section.schedule.of(setting.schedule).steps if section.schedule else setting.schedule.steps
        if section.schedule:
            section = section.model_copy(update={"schedule": section.schedule.model_copy(update={"steps": None})})
        setting = replace(setting, schedule=replace(setting.schedule, steps=max(1, steps // QUARTER)))
        method = of(setting, section)
        end = train(method, runtime, SEED, checkpoint, open_probe(name, task, setting), f"tune {row}", points=4)[-1]
        made = provenance(runtime, checkpoint.seconds)
    scores = {what: round(value, 2) for what, value in end.items() if what.startswith("val_")}
    return {"steps": method.student.updates, **scores, **{what: made[what] for what in ("seconds", "device", "revision")}}


if __name__ == "__main__":
    run_script(main, "task", "row", "trials")
