"""Stage `evaluate`: score one student, or the teacher, on the in-domain test split. No other stage opens that split.

Usage: python -m stages.evaluate TASK METHOD SEED   (METHOD `teacher` for the teacher)
"""

import csv
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from stages import models, params, paths
from stages.datasets import ImageSet
from stages.engine.players import Teacher
from stages.engine.runtime import start
from stages.errors import run_script
from stages.files import read_json, replacing, write_json
from stages.kinds.classification import per_class_accuracy, scores
from stages.progress import progress

BATCH = 256


def main(name: str, label: str, seed: str) -> None:
    """Write metrics.json and predictions.csv (columns actual, predicted, confidence) of one network."""
    params.load().task(name)
    test = ImageSet.load(paths.split(name, "test"))
    blueprint, teacher_net = models.load(paths.teacher(name))
    folder = paths.teacher(name) if label == "teacher" else paths.student(name, label, int(seed))
    _, net = models.load(folder)
    runtime = start("fp32")

    def logits(classifier: nn.Module) -> torch.Tensor:
        placed = runtime.place(Teacher(classifier))
        steps = -(-len(test) // BATCH)
        return models.logits_of(placed, progress(test.all_batches(BATCH), f"evaluate {label} {name}", total=steps, leave=False))

    teacher = logits(teacher_net)
    student = teacher if label == "teacher" else logits(net)
    card = read_json(folder / models.CARD)
    result = scores(student, teacher, test.labels) | {key: card[key] for key in ("params", "macs")}
    result |= {"kb": (folder / models.WEIGHTS).stat().st_size / 1024, "ms": latency(net.cpu().eval(), test.channels, test.size)}
    confidence, predicted = student.softmax(1).max(1)
    per_class = per_class_accuracy(predicted, test.labels, len(blueprint.classes))
    metrics = {key: _short(value) for key, value in result.items()}
    out = paths.scores(name, label, int(seed))
    write_json(out / "metrics.json", metrics | {"per_class": dict(zip(blueprint.classes, map(_short, per_class), strict=True))})
    _write_predictions(out / "predictions.csv", blueprint.classes, test.labels, predicted, confidence)


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


def _short(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else float(f"{value:.5g}")


if __name__ == "__main__":
    run_script(main, "task", "method", "seed")
