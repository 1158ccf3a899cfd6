"""Stage `curate`: score the OOD images with the teacher and keep the pool that methods draw from.

Usage: python -m stages.curate TASK
"""

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages import models, params, paths, sampling
from stages.datasets import ImageSet
from stages.datasets.images import to_unit
from stages.engine import runtime as rt
from stages.engine.players import Teacher
from stages.errors import run_script
from stages.files import read_json, replacing, save_tensors, write_json
from stages.losses import entropy, full
from stages.params import Curate
from stages.progress import progress
from stages.taps import last_linear, look

BATCH = 256


def main(name: str) -> None:
    """Write the pool, the teacher's scores of every OOD image and logits of the pool, the list of its images, and a summary."""
    settings = params.load()
    task = settings.task(name)
    ood = ImageSet.load(paths.split(name, "ood"))
    count = min(task.curate.count or len(ImageSet.load(paths.split(name, "train"))), len(ood))
    blueprint, net = models.load(paths.teacher(name))
    # In fp32 everywhere: a pool must not depend on the machine's precision.
    with rt.running("fp32") as runtime:
        teacher = Teacher(runtime.place(net), blueprint.network)
        logits, features = _seen(teacher, ood, f"score {name}", with_features=task.curate.keep == "odsd")
    scores = score(logits, features, task.curate)
    rows = select(scores, task.curate, count, logits.shape[1])
    folder = paths.pool(name)
    ood.subset(rows).save(folder / "pool.safetensors")
    save_tensors(folder / "scores.safetensors", {**scores, "rows": rows, "logits": logits[rows]})
    _write_index(folder / "index.csv", ood.index[rows], {key: value[rows] for key, value in scores.items()})
    overlap = set(read_json(paths.overlap(name))["near_duplicates"]) & set(rows.tolist())
    facts = summary(scores, rows, logits.shape[1]) | {"near_duplicates_of_test": len(overlap)}
    write_json(folder / "summary.json", facts)
    empty = facts["histogram_after"].count(0)
    print(
        f"pool of {name}: {len(rows)} of {len(ood)} images ({task.curate.keep}), mean confidence {facts['confidence']:.3f}, "
        f"{facts['effective_classes_after']:.1f} effective classes of {logits.shape[1]}"
    )
    if empty:
        print(f"the teacher takes no image of the pool for {empty} of {logits.shape[1]} classes")
    if overlap:
        print(f"warning: {len(overlap)} images of the pool are, or nearly are, images of the in-domain test split")


@torch.no_grad()
def _seen(teacher: Teacher, images: ImageSet, what: str, with_features: bool) -> tuple[Tensor, Tensor | None]:
    """T's logits (n, K) of all images and, if asked for, what enters its last linear layer (n, F)."""
    device = next(teacher.parameters()).device
    modules = [last_linear(teacher)] if with_features else []
    logits, features = [], []
    for batch in progress(images.all_batches(BATCH), what, total=-(-len(images) // BATCH)):
        answer, heard = look(teacher, to_unit(batch.to(device)), modules)
        logits.append(full(answer).cpu())
        features += [full(feature).cpu() for feature in heard]
    return torch.cat(logits), torch.cat(features) if with_features else None


def score(logits: Tensor, features: Tensor | None, curate: Curate) -> dict[str, Tensor]:
    """What is said of each image (n,): predicted class, entropy in nats, confidence; with `features` (n, F) also ODSD's scores.

    `outlier` and `density` as sampling has them; `total` is the weighted sum by which images are ranked, higher is better. With
    quotas it leaves the density out, which the quotas stand for.
    """
    predicted = logits.argmax(1)
    scores = {"predicted": predicted, "entropy": entropy(logits), "confidence": sampling.max_probability(logits)}
    if features is None:
        return scores
    options = curate.odsd
    scores["outlier"] = sampling.outlier(features, predicted, scores["confidence"], options.prototypes)
    scores["density"] = sampling.density(predicted, logits.shape[1])
    sure, far, crowded = (sampling.scaled(scores[key]) for key in ("confidence", "outlier", "density"))
    scores["total"] = options.confidence * sure - options.outlier * far
    if options.balance == "density":
        scores["total"] = scores["total"] - options.density * crowded
    return scores


def select(scores: dict[str, Tensor], curate: Curate, count: int, classes: int) -> Tensor:
    """Rows to keep, ascending: `count` of the n images by the rule `curate.keep`, or all n."""
    n = len(scores["entropy"])
    match curate.keep:
        case "all":
            rows = torch.arange(n)
        case "random":
            rows = torch.randperm(n, generator=torch.Generator().manual_seed(rt.mix(0)))[:count]
        case "highest_entropy":
            rows = sampling.best(scores["entropy"], count)
        case "lowest_entropy":
            rows = sampling.best(-scores["entropy"], count)
        case "confidence":
            rows = sampling.best(scores["confidence"], count)
        case "odsd" if curate.odsd.balance == "quota":
            rows = sampling.best_of_each(scores["total"], scores["predicted"], classes, count)
        case "odsd":
            rows = sampling.best(scores["total"], count)
    return rows.sort().values


def summary(scores: dict[str, Tensor], rows: Tensor, classes: int) -> dict[str, Any]:
    """Size, means over the pool, and the classes that the teacher sees before and after."""
    predicted = scores["predicted"]
    facts: dict[str, Any] = {"images": len(rows), "of": len(predicted)}
    facts |= {key: scores[key][rows].mean().item() for key in ("entropy", "confidence")}
    for when, chosen in (("before", predicted), ("after", predicted[rows])):
        facts[f"effective_classes_{when}"] = sampling.effective_classes(chosen, classes)
        facts[f"histogram_{when}"] = torch.bincount(chosen, minlength=classes).tolist()
    return facts


def _write_index(path: Path, index: Tensor, scores: dict[str, Tensor]) -> None:
    """The kept images, by their place in the source, and what is said of them."""
    columns = [index.tolist(), *(value.tolist() for value in scores.values())]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", *scores])
        writer.writerows([place, *(f"{value:.5g}" for value in values)] for place, *values in zip(*columns, strict=True))


if __name__ == "__main__":
    run_script(main, "task")
