"""Small games for tests: real networks and real streams, a few images, no disk."""

import torch

from stages.datasets import ImageSet
from stages.engine import runtime as rt
from stages.engine.players import Teacher
from stages.methods import Schedule, Setting
from stages.models import logits_of
from stages.networks import Normalized, classifier
from stages.params import Augment, method_class

CPU = rt.Runtime(torch.device("cpu"))
MEAN, STD = [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]  # of CIFAR-100
GAMES = ("mosaickd", "dfad", "dafl", "zskt", "dfq")
INVERSIONS = ("deepinversion", "cmi", "fast")
HINTS = ("fitnet", "at", "sp", "rkd", "crd")
ON_POOL = ("balanced", *HINTS, "sskd", "dfnd", "odsd")
METHODS = (
    "supervised",
    "kd_in_domain",
    "kd_noise",
    "kd_ood",
    *GAMES,
    *INVERSIONS,
    *ON_POOL,
    "supervised_student_domain",
    "augkd",
)
SMALL = {
    "mosaickd": {"generator_width": 4, "discriminator_width": 4},
    **{name: {"generator_width": 4, "latent": 8} for name in ("dfad", "dafl", "zskt")},
    "dfq": {"generator_width": 4, "latent": 8, "student_steps": 5},
    **{name: {"batch": 8, "steps": 2, "student_steps": 5, "pool": 24} for name in INVERSIONS},
}
SMALL["crd"] = {"negatives": 12}
SMALL["augkd"] = {"data_free": 4, "anchor_steps": 4, "latent": 8, "generator_width": 4}
SMALL["sskd"] = {"head_steps": 4}
SMALL["cmi"] |= {"generator_width": 4, "latent": 8, "bank": 20, "negatives": 12}
SMALL["fast"] |= {"generator_width": 4, "latent": 8, "warmup": 2, "redraw": 3}


def images(n=64, channels=1, size=16, classes=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, channels, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % classes
    return ImageSet(pixels, labels, torch.arange(n), tuple(map(str, range(classes))), channels, size)


def network(name, channels=1, size=16, classes=10):
    return Normalized(classifier(name, classes, channels, size), MEAN[:channels], STD[:channels])


def setting(channels=1, size=16, steps=20, batch=8, augment=None, runtime=CPU, student="convnet_4", teacher="convnet_8", lr=0.1):
    rt.seed(7)
    guide = Teacher(runtime.place(network(teacher, channels, size)))
    pool = images(channels=channels, size=size)
    return Setting(
        guide,
        network(student, channels, size),
        Schedule(steps, 2 * batch, lr, 1e-4, augment or Augment()),
        0,
        runtime,
        MEAN[:channels],
        STD[:channels],
        pool=pool,
        pool_logits=logits_of(guide, pool.all_batches(64)),
        student_domain=images(channels=channels, size=size, seed=2),
        in_domain=images(channels=channels, size=size, seed=1),
        channels=channels,
        size=size,
    )


def method(name, params=None, **options):
    kind = method_class(name)
    return kind(setting(**options), kind.Params(**{**SMALL.get(name, {}), **(params or {})}))
