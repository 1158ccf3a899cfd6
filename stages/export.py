"""Stage `export`: students of a task as files that ship, ONNX and torch.export, each with a model card.

Usage: python -m stages.export TASK
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from stages.datasets.examples import Examples
from stages.jobs.inverted import COUNT, SCORE
from stages.jobs.job import Job, open_job
from stages.kinds import IMAGES, Kind, aspect, open_kind
from stages.methods import method_class
from stages.methods._described import described
from stages.methods.bases.method import IN_DOMAIN, POOL
from stages.networks import shipped, weights
from stages.networks.complexity import latency
from stages.networks.weights import Blueprint
from stages.reporting.card import Origin, card
from stages.reporting.figures import shipped as figure
from stages.settings import paths
from stages.settings.params import TEACHER
from stages.settings.task import STUDENT_DOMAIN
from stages.support.errors import UserError, run_script
from stages.support.files import read_json, replacing_folder
from stages.support.progress import progress

COMPARED = 2000  # test examples on which each file is compared with the network that it was made of
BATCH = 64
NEAR = 0.999  # the share of examples with the same answer below which it is said


def main(name: str) -> None:
    """Write models/exported/TASK: a folder for each student, a table and a figure of what they cost."""
    job = open_job("export", name)
    places, wanted = job.places, job.params.export
    teacher = read_json(places.scores(TEACHER, 0) / "metrics.json")
    test, lines = Examples.load(places.split("test")), []
    runs = [(row, seed) for row in wanted.methods or job.run.methods for seed in wanted.seeds or job.run.seeds]
    with replacing_folder(places.exported) as folder:
        for row, seed in progress(runs, f"export {name}"):
            if reason := read_json(places.student(row, seed) / paths.RUN).get("why_not"):
                print(f"{row} is left out: it {reason}")
            else:
                lines.append(_ship(job, row, seed, teacher, test, folder / row / str(seed)))
        if not lines:
            raise UserError("export.methods: none of these rows runs on the task, so nothing can be exported")
        frame = pd.DataFrame(lines)
        frame.to_csv(folder / "students.csv", index=False, float_format="%.5g")
        figure.draw(frame, teacher, lines[0]["score"], name, folder)
    for line in lines:
        print(
            f"{name} {line['row']} {line['seed']}: {line['onnx_kb']:,.0f} KB, {line['onnx_ms']:.2f} ms on a thread; "
            f"{100 * line['onnx_same']:.2f} % of {line['compared']} answers as before, logits differ by "
            f"{line['onnx_difference']:.1e} at most"
        )
        if min(line["onnx_same"], line["program_same"]) < NEAR:
            print(f"look here: an exported file of {line['row']} {line['seed']} answers otherwise than the student")
    print(f"{places.exported} has {shipped.ONNX}, {shipped.PROGRAM} and a model card for each")


def _ship(job: Job, row: str, seed: int, teacher: dict[str, Any], test: Examples, folder: Path) -> dict[str, Any]:
    """Write one student's files; what they are and cost."""
    places = job.places
    blueprint, net = weights.load(places.student(row, seed))
    kind, net = open_kind(job.task, blueprint.classes), net.eval()
    scores = read_json(places.scores(row, seed) / "metrics.json")
    score = SCORE if SCORE in scores else kind.headline
    facts = {"kind": job.task.kind, "classes": list(blueprint.classes), **_takes(kind, blueprint)}
    facts |= {"task": job.name, "row": row, "seed": seed}
    folder.mkdir(parents=True)
    example = kind.blank(1)
    shipped.write(folder, net, example, facts)
    if IMAGES not in kind.has:
        shutil.copy(places.split("train").with_name("tokenizer.json"), folder)
    some = test.subset(torch.arange(min(COMPARED, len(test))))
    line: dict[str, Any] = {"row": row, "seed": seed, "score": score, score: scores[score]}
    line |= {key: scores[key] for key in ("params", "macs", "kb", "ms")} | {"compared": len(some)}
    for what, file in (("onnx", shipped.ONNX), ("program", shipped.PROGRAM)):
        reader = shipped.Reader(folder / file, threads=1)
        same, difference = _parity(kind, net, reader, some)
        line |= {f"{what}_kb": (folder / file).stat().st_size / 1024, f"{what}_ms": latency(reader, example)}
        line |= {f"{what}_same": same, f"{what}_difference": difference}
    columns = aspect(job.task.kind, "scores").COLUMNS
    (folder / "README.md").write_text(card(facts, scores, teacher, line, _origin(job, row, kind, score), columns))
    return line


def _origin(job: Job, row: str, kind: Kind, score: str) -> Origin:
    """What the card says of where a student comes from."""
    task, sees = job.task, method_class(job.params, row).sees
    ood, domain = (source and source.model_dump(mode="json") for source in (task.ood, task.in_domain))
    learned = {POOL: ood, STUDENT_DOMAIN: ood, IN_DOMAIN: domain}
    every = [read_json(job.places.scores(row, seed) / "metrics.json")[score] for seed in job.run.seeds]
    return Origin(
        network=task.distill.student.network,
        teacher=_teacher(job),
        described=described(job.params, row),
        learned=[source for what, source in learned.items() if what in sees],
        domain=domain,
        seeds=every,
        tested=kind.tested
        if score != SCORE
        else f"{kind.tested}; {SCORE} on {COUNT:,} images that were inverted from the teacher",
        dense=len(kind.answer) > 1,
        counted=len(kind.answer) == 1 and score != SCORE,  # neighbouring pixels are no sample, nor is a mean over classes one
    )


def _teacher(job: Job) -> str:
    """Which teacher it was, by the hash of its user's own file where there is one."""
    made = read_json(job.places.teacher / weights.CARD)
    size = f"{made['params']:,} parameters" if made["params"] else "answers that were given once"
    given = f", SHA-256 {made['sha256']}" if "sha256" in made else ""
    origin = made["made"] if isinstance(made["made"], str) else "; ".join(made["made"])
    return f"`{made['network']}`, {size}, {origin}{given}"


def _takes(kind: Kind, blueprint: Blueprint) -> dict[str, Any]:
    """What a file takes, for its metadata."""
    if IMAGES not in kind.has:
        assert blueprint.text is not None
        return {"length": blueprint.text["length"], "pad": blueprint.text["pad"]}
    channels, height, width = kind.blank(1).shape[1:]
    return {"height": height, "width": width, "mode": "L" if channels == 1 else "RGB"}


def _parity(kind: Kind, net: nn.Module, reader: shipped.Reader, test: Examples) -> tuple[float, float]:
    """The share of answers (of pixels, where each has one) that are the same, and by how much logits differ at most."""
    same, difference = [], 0.0
    for inputs in kind.shown(test, BATCH):
        with torch.no_grad():
            ours = net(inputs)
        theirs, _ = reader(inputs)
        same.append((ours.argmax(1) == theirs.argmax(1)).double().flatten())
        difference = max(difference, (ours - theirs).abs().max().item())
    return torch.cat(same).mean().item(), difference


if __name__ == "__main__":
    run_script(main, "task")
