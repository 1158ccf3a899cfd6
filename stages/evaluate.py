"""Stage `evaluate`: score a task's teacher and all its students on the in-domain test split, which no other stage opens.

One process for all runs of a task: starting Python costs ten times the work on one student.
Usage: python -m stages.evaluate TASK
"""

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from stages.datasets.examples import INPUT, Examples, pack
from stages.engine.runtime import start
from stages.families.opening import open_teacher
from stages.kinds import aspect
from stages.networks import weights
from stages.reporting.features import likeness, penultimate
from stages.settings import params, paths, plans
from stages.settings.params import TEACHER
from stages.settings.task import STUDENT_DOMAIN
from stages.support.errors import run_script
from stages.support.files import read_json, read_tensors, write_json
from stages.support.progress import progress

BATCH = 256


def main(name: str) -> None:
    """Write metrics.json and predictions.csv of every run in params.yaml: its scores, and how its network was made.

    Where the task names a student domain, metrics.json has its scores under `student_domain`, and there is a student_domain.csv.
    """
    settings = params.load()
    task = settings.task(name)
    plans.of_stage(settings, "evaluate", name).agree(paths.plan(name, "evaluate"))
    tests = {"predictions": Examples.load(paths.split(name, "test"))}
    if task.student_domain:
        tests[STUDENT_DOMAIN] = Examples.load(paths.student_domain(name, "test"))
    runtime, measure = start("fp32"), aspect(task.kind, "scores")
    made_for, kind, guide = open_teacher(name, task, runtime)
    teacher = {domain: kind.answers(guide, test, BATCH) for domain, test in tests.items()}
    in_domain: Tensor | None = None
    milliseconds: dict[str, float] = {}
    for row, seed in progress(settings.run.runs, f"evaluate {name}"):
        folder = paths.teacher(name) if row == TEACHER else paths.student(name, row, seed)
        out, made = paths.scores(name, row, seed), read_json(folder / paths.RUN)
        if "why_not" in made:
            write_json(out / "metrics.json", {"made": made})
            continue
        _, net = weights.load(folder)
        runtime.place(net.eval())
        scores = {}
        for domain, test in tests.items():
            logits = kind.answers(net, test, BATCH)
            scores[domain] = measure.scores(logits, teacher[domain], test) | by_teacher(logits, test, made_for.known)
            measure.write_predictions(out / domain, logits, test)
        card = read_json(folder / weights.CARD)
        if card["network"] not in milliseconds:  # of one architecture: between two networks of it there is only noise
            milliseconds[card["network"]] = latency(net.cpu(), kind.blank(1))
        result = scores.pop("predictions") | {key: card[key] for key in ("params", "macs")}
        result |= {
            "kb": (folder / weights.WEIGHTS).stat().st_size / 1024,
            "ms": milliseconds[card["network"]],
        }
        result |= made.pop("cost", {}) | made.pop("findings", {})
        if (samples := folder / "samples.safetensors").exists():
            if in_domain is None:
                in_domain = penultimate(guide, kind.shown(Examples.load(paths.split(name, "val")), BATCH))
            shown = kind.shown(pack(read_tensors(samples)[0][INPUT]), BATCH)
            result |= likeness(penultimate(guide, shown), in_domain)
        write_json(out / "metrics.json", _short(result | scores) | {"made": made})


def by_teacher(logits: Tensor, examples: Examples, known: list[int]) -> dict[str, float]:
    """Top-1 accuracy in percent where it is known which of several teachers an image is for: of all, and of each one's images.

    `known` says how many classes each teacher answers for, whose logits (n, K) stand side by side. Nothing of one teacher.
    """
    if len(known) < 2:
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


def latency(net: nn.Module, example: Tensor, repeats: int = 30) -> float:
    """Median milliseconds for one `example` (1, ...) on one CPU thread, after five warm-up runs."""
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    with torch.inference_mode():
        for _ in range(repeats + 5):
            begin = time.perf_counter()
            net(example)
            times.append(1000 * (time.perf_counter() - begin))
    torch.set_num_threads(threads)
    return statistics.median(times[5:])


def _short(value: Any) -> Any:
    """Five digits of every number."""
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    run_script(main, "task")
