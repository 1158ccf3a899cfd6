"""Stage `export`: students of a task as files that ship, ONNX and torch.export, each with a model card.

Usage: python -m stages.export TASK
"""

import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from stages.datasets.examples import Examples
from stages.jobs.job import Job, open_job
from stages.kinds import IMAGES, Kind, aspect, open_kind
from stages.methods._described import described
from stages.networks import shipped, weights
from stages.networks.complexity import latency
from stages.networks.weights import Blueprint
from stages.reporting.card import card
from stages.reporting.figures import shipped as figure
from stages.settings import paths
from stages.settings.params import TEACHER
from stages.support.errors import UserError, run_script
from stages.support.files import read_json, replacing, replacing_folder
from stages.support.progress import progress

COMPARED = 2000  # test examples on which each file is compared with the network that it was made of
BATCH = 64
NEAR = 0.999  # the share of examples with the same answer below which it is said


def main(name: str) -> None:
    """Write models/exported/TASK: a folder for each student, a table and a figure of what they cost."""
    job = open_job("export", name)
    with replacing_folder(job.places.exported) as folder:
        lines = [_ship(job, row, seed, folder / row / str(seed)) for row, seed in progress(_chosen(job), f"export {name}")]
        teacher = read_json(job.places.scores(TEACHER, 0) / "metrics.json")
        frame = pd.DataFrame(lines)
        frame.to_csv(folder / "students.csv", index=False, float_format="%.5g")
        figure.draw(frame, teacher, str(lines[0]["score"]), name, folder)
    for line in lines:
        print(
            f"{name} {line['row']} {line['seed']}: {line['onnx_kb']:,.0f} KB, {line['onnx_ms']:.2f} ms on a thread (teacher "
            f"{teacher['ms']:.2f}); {100 * line['onnx_same']:.2f} % of {line['compared']} answers as before, logits differ by "
            f"{line['onnx_difference']:.1e} at most"
        )
        if min(line["onnx_same"], line["program_same"]) < NEAR:
            print(f"look here: an exported file of {line['row']} {line['seed']} answers otherwise than the student")
    print(f"{job.places.exported} has {shipped.ONNX}, {shipped.PROGRAM} and a model card for each")


def _chosen(job: Job) -> list[tuple[str, int]]:
    """The students to export: those of the run that there are, or the rows and seeds that `export` names."""
    wanted = job.params.export
    rows, seeds = wanted.methods or job.run.methods, wanted.seeds or job.run.seeds
    found = []
    for row in rows:
        for seed in seeds:
            made = job.places.student(row, seed) / paths.RUN
            if not made.exists():
                raise UserError(f"export.methods: there is no student of {row} with seed {seed}; name both in `run` too")
            if reason := read_json(made).get("why_not"):
                print(f"{row} is left out: it {reason}")
            else:
                found.append((row, seed))
    if not found:
        raise UserError("export.methods: none of these rows runs on the task, so nothing can be exported")
    return found


def _ship(job: Job, row: str, seed: int, folder: Path) -> dict[str, Any]:
    """Write one student's files; what they are and cost."""
    places, task = job.places, job.task
    blueprint, net = weights.load(places.student(row, seed))
    kind, net = open_kind(task, blueprint.classes), net.eval()
    scores = read_json(places.scores(row, seed) / "metrics.json")
    teacher = read_json(places.scores(TEACHER, 0) / "metrics.json")
    facts = {
        "kind": task.kind,
        "classes": list(blueprint.classes),
        **_takes(kind, blueprint),
        "task": job.name,
        "row": row,
        "seed": seed,
    }
    folder.mkdir(parents=True)
    example = kind.blank(1)
    shipped.write(folder, net, example, facts)
    if IMAGES not in kind.has:
        shutil.copy(places.split("train").with_name("tokenizer.json"), folder)
    test = Examples.load(places.split("test"))
    test = test.subset(torch.arange(min(COMPARED, len(test))))
    line: dict[str, Any] = {"row": row, "seed": seed, "score": kind.headline, kind.headline: scores[kind.headline]}
    line |= {"params": scores["params"], "macs": scores["macs"], "ms": scores["ms"], "compared": len(test)}
    for what, file in (("onnx", shipped.ONNX), ("program", shipped.PROGRAM)):
        reader = shipped.Reader(folder / file, threads=1)
        same, difference = _parity(kind, net, reader, test)
        line |= {
            f"{what}_kb": (folder / file).stat().st_size / 1024,
            f"{what}_ms": latency(reader, example),
            f"{what}_same": same,
            f"{what}_difference": difference,
        }
    others = [places.scores(row, other) / "metrics.json" for other in job.run.seeds]
    every = [read_json(path).get(kind.headline, math.nan) for path in others if path.exists()] if row in job.run.methods else []
    about = {
        "described": described(job.params, row),
        "teacher": teacher,
        "seeds": every,
        "tested": len(Examples.load(places.split("test"))),
        "in_domain": task.in_domain.model_dump(mode="json") if task.in_domain else None,
        "ood": task.ood.model_dump(mode="json"),
        "student": task.distill.student.network,
        "tested_on": kind.tested,
    }
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(card(facts, scores, line, about, aspect(task.kind, "scores").COLUMNS))
    return line


def _takes(kind: Kind, blueprint: Blueprint) -> dict[str, Any]:
    """What a file takes, for its metadata."""
    if IMAGES not in kind.has:
        assert blueprint.text is not None
        return {"length": blueprint.text["length"], "pad": blueprint.text["pad"]}
    channels, height, width = kind.blank(1).shape[1:]
    fit = "PIL.ImageOps.fit(image, (width, height), PIL.Image.Resampling.BILINEAR), divided by 255, channels first"
    return {"height": height, "width": width, "mode": "L" if channels == 1 else "RGB", "prepare": fit}


def _parity(kind: Kind, net: torch.nn.Module, reader: shipped.Reader, test: Examples) -> tuple[float, float]:
    """The share of answers (of pixels, where each has one) that are the same, and by how much logits differ at most."""
    same, difference = [], 0.0
    for inputs in kind.shown(test, BATCH):
        with torch.no_grad():
            logits = net(inputs)
        told = reader(inputs)[0]
        same.append((logits.argmax(1) == told.argmax(1)).double().flatten())
        difference = max(difference, (logits - told).abs().max().item())
    return torch.cat(same).mean().item(), difference


if __name__ == "__main__":
    run_script(main, "task")
