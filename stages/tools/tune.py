"""Try values of a row's parameters, by one rule for all: six trials at most, the whole schedule, seed 0.

What counts is the validation split's headline score after the last step; no test split is opened. results/tuning.csv keeps every
trial, and one that it has is not tried again. Not a stage: it wants what `dvc repro curate@TASK` leaves.
Usage: python -m stages.tools.tune TASK ROW 'KEY=VALUE KEY=VALUE; KEY=VALUE'
"""

from dataclasses import replace
from typing import Any

import pandas as pd
import yaml

from stages import methods
from stages.engine.loop import train
from stages.engine.provenance import provenance
from stages.jobs.job import open_row
from stages.jobs.requirements import why_not
from stages.jobs.setup import able, data_of, open_probe, open_setting
from stages.settings import params, paths
from stages.settings.catalogue import Layer, patched
from stages.settings.params import PARAMS, Params
from stages.settings.yaml import Loader
from stages.support.errors import UserError, run_script
from stages.support.files import replacing

TRIALS, SEED = 6, 0  # games that are cut short rank their values otherwise
TUNING = paths.RESULTS / "tuning.csv"


def main(name: str, row: str, trials: str) -> None:
    """Run every trial of `trials` that results/tuning.csv has not, and add it there."""
    settings = params.load()
    settings.task(name)
    scale = settings.run.scale
    tried = pd.read_csv(TUNING, dtype=str) if TUNING.exists() else pd.DataFrame(columns=["task", "row", "trial", "scale", "key"])
    of_row = tried[(tried["task"] == name) & (tried["row"] == row) & (tried["scale"] == scale)]
    settings = replace(settings, run=settings.run.model_copy(update={"tasks": [name]}))  # for which changes are
    asked = {text.strip(): _changed(settings, row, text) for text in trials.split(";")}
    for text, changed in asked.items():
        try:
            methods.section(changed, row, name)
        except UserError as error:
            raise UserError(f"{row} on {name}, trial '{text}': {error.args[0].partition(': ')[2]}") from None
    if len(every := {*of_row["trial"], *asked}) > TRIALS:
        raise UserError(
            f"{row} on {name}: {len(every)} trials are more than {TRIALS}, which every method has; "
            f"{TUNING} has {'; '.join(of_row['trial']) or 'none'}"
        )
    for text, changed in asked.items():
        if (found := _tried(changed, name, row, set(of_row["key"]))) is None:
            print(f"{row} on {name}: '{text}' was tried already")
            continue
        line = {"task": name, "row": row, "trial": text, "scale": scale, **found}
        tried = pd.DataFrame([*tried.to_dict("records"), line])
        with replacing(TUNING) as temporary:
            tried.to_csv(temporary, index=False)
        print(", ".join(f"{what} {value}" for what, value in line.items()))


def _changed(settings: Params, row: str, text: str) -> Params:
    """The settings with the changes of `row` that `text` names; none where it is a dash."""
    changes: dict[str, Any] = {}
    for word in text.split() if text.strip() != "-" else []:
        what, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"a trial is written KEY=VALUE KEY=VALUE, or - for the values as they are; not '{word}'")
        changes[what] = yaml.load(value, Loader)
    return replace(settings, changes=Layer(patched(settings.changes.content, {"method": {row: changes}}), PARAMS, ""))


def _tried(settings: Params, name: str, row: str, known: set[str]) -> dict[str, Any] | None:
    """The scores of a trial, where it was made, and a key of all that it depends on; None where its key is `known`."""
    job = open_row(name, row, str(SEED), settings)
    task, places, section = job.task, job.places, job.section
    with job.training(f"tune-{row}", SEED, job.inputs) as (runtime, called, (checkpoint,)):
        if called in known:
            return None
        setting, _ = open_setting(places, task, job.method, SEED, runtime)
        if reason := why_not(job.method, section, setting.kind.has, able(setting), data_of(task)):
            raise UserError(f"{row} does not run on {name}: it {reason}")
        method = job.method(setting, section)
        end = train(method, runtime, SEED, checkpoint, open_probe(places, task, setting), f"tune {row}", points=4)[-1]
        made = provenance(runtime, checkpoint.seconds)
    scores = {what: round(value, 2) for what, value in end.items() if what.startswith("val_")}
    where = {what: made[what] for what in ("seconds", "device", "revision")}
    return {"steps": method.student.updates, **scores, **where, "key": called}


if __name__ == "__main__":
    run_script(main, "task", "row", "trials")
