"""Stage `evaluate`: score a task's teacher and all its students on the in-domain test split, which no other stage opens.

One process for all runs of a task: starting Python costs ten times the work on one student.
Usage: python -m stages.evaluate TASK
"""

import csv
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages import models, params, paths
from stages.datasets import ImageSet
from stages.engine.players import Teacher
from stages.engine.runtime import start
from stages.features import frechet_distance, pair_distances, penultimate
from stages.kinds.classification import per_class_accuracy, scores
from stages.params import STUDENT_DOMAIN, TEACHER, runs
from stages.support.errors import run_script
from stages.support.files import read_json, replacing, write_json
from stages.support.progress import progress

BATCH = 256


def main(name: str) -> None:
    """Write metrics.json and predictions.csv (columns actual, predicted, confidence) of every run in params.yaml.

    Where the task names a student domain, metrics.json has its scores under `student_domain`, and there is a student_domain.csv.
    """
    settings = params.load()
    tests = {"predictions": ImageSet.load(paths.split(name, "test"))}
    if settings.task(name).student_domain:
        tests[STUDENT_DOMAIN] = ImageSet.load(paths.student_domain(name, "test"))
    runtime = start("fp32")
    _, teacher_net = models.load(paths.teacher(name))
    guide = Teacher(runtime.place(teacher_net))
    teacher = {domain: models.logits_of(guide, test.all_batches(BATCH)) for domain, test in tests.items()}
    in_domain = penultimate(guide, torch.cat(list(ImageSet.load(paths.split(name, "val")).all_batches(BATCH))))
    for label, seed in progress(runs(settings.run), f"evaluate {name}"):
        folder = paths.teacher(name) if label == TEACHER else paths.student(name, label, seed)
        blueprint, net = models.load(folder)
        runtime.place(net.eval())
        out = paths.scores(name, label, seed)
        judged = {domain: judge(net, test, teacher[domain], out / f"{domain}.csv") for domain, test in tests.items()}
        card = read_json(folder / models.CARD)
        result = judged.pop("predictions") | {key: card[key] for key in ("params", "macs")}
        result |= {
            "kb": (folder / models.WEIGHTS).stat().st_size / 1024,
            "ms": latency(net.cpu(), blueprint.channels, blueprint.size),
        }
        if label != TEACHER:
            result |= read_json(folder / "cost.json")
        if (samples := folder / "samples.safetensors").exists():
            result |= likeness(penultimate(guide, load_file(samples)["images"]), in_domain)
        write_json(out / "metrics.json", _short(result | judged))


def judge(net: nn.Module, test: ImageSet, teacher: Tensor, predictions: Path) -> dict[str, Any]:
    """Scores of `net` on a test split, against T's logits (n, K) of it too; writes its predictions."""
    student = models.logits_of(net, test.all_batches(BATCH))
    confidence, predicted = student.softmax(1).max(1)
    _write_predictions(predictions, test.classes, test.labels, predicted, confidence)
    per_class = per_class_accuracy(predicted, test.labels, len(test.classes))
    return scores(student, teacher, test.labels) | {"per_class": dict(zip(test.classes, per_class, strict=True))}


def likeness(synthetic: Tensor, in_domain: Tensor) -> dict[str, float]:
    """What the teacher's features (n, F) of synthetic images say beside those (m, F) of in-domain ones.

    fd: Fréchet distance, where n > F; spread: mean distance of pairs in % of the in-domain one.
    """
    spread = pair_distances(synthetic).mean() / pair_distances(in_domain).mean()
    result = {"spread": 100 * spread.item()}
    if len(synthetic) > synthetic.shape[1]:  # a covariance of fewer images says nothing
        result["fd"] = frechet_distance(synthetic, in_domain)
    return result


def latency(net: nn.Module, channels: int, size: int, repeats: int = 30) -> float:
    """Median milliseconds for one image on one CPU thread, after five warm-up runs."""
    image, threads, times = torch.rand(1, channels, size, size), torch.get_num_threads(), []
    torch.set_num_threads(1)
    with torch.inference_mode():
        for _ in range(repeats + 5):
            begin = time.perf_counter()
            net(image)
            times.append(1000 * (time.perf_counter() - begin))
    torch.set_num_threads(threads)
    return statistics.median(times[5:])


def _write_predictions(
    path: Path, classes: tuple[str, ...], labels: torch.Tensor, predicted: torch.Tensor, confidence: torch.Tensor
) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted", "confidence"])
        for actual, guess, sure in zip(labels.tolist(), predicted.tolist(), confidence.tolist(), strict=True):
            writer.writerow([classes[actual], classes[guess], f"{sure:.4f}"])


def _short(value: Any) -> Any:
    """Five digits of every number."""
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    run_script(main, "task")
