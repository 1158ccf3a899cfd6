"""Stage `evaluate`: score a task's teacher and all its students on the test split, which no other stage opens.

Where that has no labels, students are compared with the teacher, on the images to which it has an answer.

One process for all runs of a task: starting Python costs ten times the work on one student.
Usage: python -m stages.evaluate TASK
"""

from typing import Any

import torch
from torch import Tensor

from stages.datasets.examples import INPUT, LABEL, Examples, pack
from stages.engine.teacher import ASKED, FEATURES, Teacher
from stages.jobs.inverted import SCORE, class_agreement, compared_by, fair, kept
from stages.jobs.job import open_job
from stages.jobs.setup import open_teacher
from stages.kinds import Kind, answered, aspect
from stages.methods import method_class
from stages.networks import weights
from stages.networks.answers import stored
from stages.networks.complexity import latency
from stages.reporting.features import likeness, penultimate
from stages.settings import paths
from stages.settings.params import TEACHER
from stages.settings.paths import Places
from stages.settings.task import HELD_OUT, LABELLED, STUDENT_DOMAIN
from stages.support.errors import run_script
from stages.support.files import read_json, read_tensors, replacing_folder, sha256, write_json
from stages.support.progress import progress
from stages.support.seeds import shuffled

BATCH = 256


def main(name: str) -> None:
    """Write metrics.json and predictions.csv of every run in params.yaml: its scores, and how its network was made.

    Where the task names a student domain, metrics.json has its scores under `student_domain`, and there is a student_domain.csv.
    """
    job = open_job("evaluate", name)
    task, places, runs = job.task, job.places, job.run.runs
    tests = {"predictions": Examples.load(places.split("test"))}
    if task.student_domain:
        tests[STUDENT_DOMAIN] = Examples.load(places.student_domain("test"))
    runtime, measure = job.measuring(), aspect(task.kind, "scores")
    made_for, kind, guide = open_teacher(places, task, runtime)
    if task.measured != LABELLED:
        tests = {domain: answered(kind, guide, test) for domain, test in tests.items()}
    teacher = {domain: _told(kind, guide, test) for domain, test in tests.items()}
    taught_by = sha256(places.teacher / weights.WEIGHTS)[:16]
    like = {} if task.measured == HELD_OUT else _likeness(runs, places, kind, guide)
    dreams = None
    if compared_by(kind, guide) == SCORE:
        dreams = kept(job, (made_for, kind, guide), runtime)
    seen = None if dreams is None else kind.answers(guide, dreams, BATCH)
    if seen is not None and len(classes := seen.argmax(1).unique()) < len(kind.classes) / 2:
        print(
            f"look here: in images inverted from it the teacher sees {len(classes)} of {len(kind.classes)} classes, so {SCORE} "
            "says little; label some images"
        )
    milliseconds: dict[str, float] = {}
    for row, seed in progress(runs, f"evaluate {name}"):
        folder = places.teacher if row == TEACHER else places.student(row, seed)
        made = read_json(folder / paths.RUN)
        if row == TEACHER and teacher["predictions"] is None:
            made["why_not"] = "was asked once, and not of all test images"
        if "why_not" in made:
            with replacing_folder(places.scores(row, seed)) as out:
                write_json(out / "metrics.json", {"made": made})
            continue
        _, net = weights.load(folder)
        runtime.place(net.eval())
        logits = {domain: kind.answers(net, test, BATCH) for domain, test in tests.items()}
        scores = {
            domain: measure.scores(logits[domain], teacher[domain], test) | by_part(logits[domain], test, made_for.known)
            for domain, test in tests.items()
        }
        found = {}
        if dreams is not None and seen is not None and (row == TEACHER or fair(method_class(job.params, row))):
            found = {SCORE: class_agreement(kind.answers(net, dreams, BATCH), seen)}
        card = read_json(folder / weights.CARD)
        if card["network"] not in milliseconds:  # of one architecture: between two networks of it there is only noise
            milliseconds[card["network"]] = latency(net.cpu(), kind.blank(1)) if stored(net) is None else float("nan")
        result = {f"{key}{kind.suffix}": value for key, value in scores.pop("predictions").items()} | found
        result |= {key: card[key] for key in ("params", "macs")}
        result |= {
            "kb": (folder / weights.WEIGHTS).stat().st_size / 1024,
            "tested": len(tests["predictions"]),
            "ms": milliseconds[card["network"]],
        }
        result |= made.pop("cost", {}) | made.pop("findings", {})
        made["weights"] = sha256(folder / weights.WEIGHTS)[:16]  # so that a later run can be seen to give the same network
        if row != TEACHER:
            made["teacher"] = taught_by
        result |= like.get((row, seed), {})
        with replacing_folder(places.scores(row, seed)) as out:
            for domain, test in tests.items():
                measure.write_predictions(out / domain, logits[domain], test, kind.classes, teacher[domain])
            write_json(out / "metrics.json", _short(result | scores) | {"made": made})


def _told(kind: Kind, teacher: Teacher, test: Examples) -> Tensor | None:
    """The teacher's logits (n, K, ...) of a test split; None where it was asked once, and not of all of it."""
    logits = kind.answers(teacher, test, BATCH)
    return None if ASKED not in teacher.can and logits.isnan().any() else logits


def _likeness(runs: list[tuple[str, int]], places: Places, kind: Kind, guide: Teacher) -> dict[tuple[str, int], dict[str, float]]:
    """Compare each run's inputs with validation inputs, and as many training inputs for the teacher's row."""
    made = {(row, seed): places.student(row, seed) / "samples.safetensors" for row, seed in runs if row != TEACHER}
    made = {run: path for run, path in made.items() if path.exists()}
    if not made or FEATURES not in guide.can:
        return {}
    in_domain = penultimate(guide, kind.shown(Examples.load(places.split("val")), BATCH))

    def like(inputs: Examples) -> dict[str, float]:
        return likeness(penultimate(guide, kind.shown(inputs, BATCH)), in_domain)

    found, count = {}, 0
    for run, path in made.items():
        inputs = pack(read_tensors(path)[0][INPUT])
        found[run], count = like(inputs), max(count, len(inputs))
    train = Examples.load(places.split("train"))
    return {**found, (TEACHER, 0): like(train.subset(shuffled(len(train))[:count]))}


def by_part(logits: Tensor, examples: Examples, known: list[int]) -> dict[str, float]:
    """Top-1 accuracy in percent where it is known which of several teachers an image is for: of all, and of each one's images.

    `known` says how many classes each teacher answers for, whose logits (n, K) stand side by side. Nothing of one teacher.
    """
    if len(known) < 2 or LABEL not in examples.columns:
        return {}
    hits, first = [], 0
    for count in known:
        mine = (examples.label >= first) & (examples.label < first + count)
        hits.append((logits[mine, first : first + count].argmax(1) + first == examples.label[mine]).double())
        first += count
    return {
        "known": 100 * torch.cat(hits).mean().item(),
        **{f"part{i}": 100 * hit.mean().item() for i, hit in enumerate(hits, 1)},
    }


def _short(value: Any) -> Any:
    """Five digits of every number."""
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    run_script(main, "task")
