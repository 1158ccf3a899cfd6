"""Stage `curate`: score the OOD images with the teacher and keep the pool that methods draw from.

Usage: python -m stages.curate TASK
"""

import torch
from torch import Tensor

from stages import models, params, paths
from stages.datasets import ImageSet
from stages.engine import runtime as rt
from stages.engine.players import Teacher
from stages.errors import run_script
from stages.files import save_tensors, write_json
from stages.losses import entropy
from stages.progress import progress

BATCH = 256


def main(name: str) -> None:
    """Write the pool, the teacher's logits of it, and the entropy of every OOD image."""
    settings = params.load()
    task = settings.task(name)
    ood = ImageSet.load(paths.split(name, "ood"))
    count = task.curate.count or len(ImageSet.load(paths.split(name, "train")))
    _, net = models.load(paths.teacher(name))
    # In fp32 everywhere: a pool must not depend on the machine's precision.
    with rt.running("fp32") as runtime:
        teacher = Teacher(runtime.place(net))
        batches = progress(ood.all_batches(BATCH), f"score {name}", total=-(-len(ood) // BATCH))
        logits = models.logits_of(teacher, batches)
    scores = entropy(logits)
    rows = select(scores, task.curate.keep, count)
    folder = paths.pool(name)
    ood.subset(rows).save(folder / "pool.safetensors")
    save_tensors(folder / "scores.safetensors", {"entropy": scores, "rows": rows, "logits": logits[rows]})
    facts = {"images": len(rows), "of": len(ood), "entropy": scores[rows].mean().item()}
    write_json(folder / "summary.json", facts)
    print(f"pool of {name}: {len(rows)} of {len(ood)} images ({task.curate.keep}), mean entropy {facts['entropy']:.3f} nats")


def select(scores: Tensor, keep: str, count: int) -> Tensor:
    """Rows to keep, ascending: the `count` highest or lowest of `scores` (n,), a seeded draw of `count`, or all n."""
    if keep == "all":
        return torch.arange(len(scores))
    if keep == "random":
        order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(rt.mix(0)))
    else:
        order = scores.argsort(descending=keep == "highest_entropy", stable=True)
    return order[:count].sort().values


if __name__ == "__main__":
    run_script(main, "task")
