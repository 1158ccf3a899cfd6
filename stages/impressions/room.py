"""What all measurements of impressions share: templates, the images that they look at, and where results go."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.datasets.examples import Examples
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from stages.impressions.probing import BATCH, Labelled
from stages.jobs.job import Job
from stages.jobs.setup import open_teacher
from stages.kinds import Kind
from stages.methods.blocks.impression_decoder import Decoder
from stages.networks import weights
from stages.networks.template import Template
from stages.networks.weights import Blueprint
from stages.reporting.impressions import RANDOM, TRAINED
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.support.seeds import shuffled

GALLERY, QUERIES, REFERENCE = 1000, 500, 1000  # images at most: who votes (or ten a class), who is voted for, for the scales
CLASSES = 10  # that figures show


@dataclass(frozen=True)
class Room:
    """What the measurements share: templates by kind and seed, images, and where results go."""

    places: Places
    kind: Kind
    blueprint: Blueprint
    templates: dict[tuple[str, int], Template]
    gallery: Labelled
    queries: Labelled
    pool: Examples
    steps: int
    folder: Path

    @property
    def name(self) -> str:
        """The task's name."""
        return self.places.task

    @property
    def teacher(self) -> Template:
        """The template of the task's own teacher."""
        return self.templates[TRAINED, 0]

    @property
    def classes(self) -> list[str]:
        """The first of the task's."""
        return list(self.kind.classes[:CLASSES])

    def judge(self, seed: int) -> Template:
        """A trained network that is none of `seed`."""
        seeds = [other for what, other in self.templates if what == TRAINED]
        return self.templates[TRAINED, seeds[(seeds.index(seed) + 1) % len(seeds)]]

    def decoder(self, template: Template) -> Decoder:
        """Make the decoder of the task's images."""
        return Decoder(template, self.blueprint.mean or [], self.blueprint.std or [], steps=self.steps)


def open_room(job: Job, runtime: rt.Runtime, folder: Path) -> Room:
    """The templates, trained and random, and the images that they look at. Raises UserError where these are too few."""
    places, asked = job.places, job.params.impress
    blueprint, kind, teacher = open_teacher(places, job.task, runtime)
    train, val = (Examples.load(places.split(split)) for split in ("train", "val"))
    pool = Examples.load(places.pool / "pool.safetensors")
    reference = shown_images(kind, pool, shuffled(len(pool))[:REFERENCE])
    trained = {0: teacher}
    for seed in asked.seeds:
        trained[seed] = Teacher(runtime.place(weights.load(places.template(seed))[1]), name=blueprint.network)
    nets = {(TRAINED, seed): net for seed, net in trained.items()}
    if RANDOM in asked.templates:
        images = shown_images(kind, train, shuffled(len(train))[:REFERENCE])
        nets |= {(RANDOM, seed): untrained(blueprint, images, seed, runtime) for seed in trained}
    templates = {key: Template.of(net, kind.blank(1)).scaled(reference.split(BATCH)) for key, net in nets.items()}
    order = shuffled(len(val))
    order = order[each_class_first(val.label[order])]
    count = min(max(GALLERY, 10 * len(kind.classes)), 2 * len(val) // 3)
    known = Labelled(shown_images(kind, val, order[: count + QUERIES]), val.label[order[: count + QUERIES]])
    if len(known[:count].classes) < len(kind.classes):
        raise UserError(f"impress: the validation split of {job.name} has no image of some class; give it more labelled images")
    return Room(
        places,
        kind,
        blueprint,
        templates,
        known[:count],
        known[count:],
        pool.subset(shuffled(len(pool))),
        3 if job.smoke else 0,
        folder,
    )


def shown_images(kind: Kind, examples: Examples, rows: Tensor) -> Tensor:
    """The examples of `rows` as a network sees them, (n, C, H, W) in [0, 1]."""
    return torch.cat(list(kind.shown(examples.subset(rows), 256)))


def each_class_first(labels: Tensor) -> Tensor:
    """An order of rows in which the first of each class come before all others; else as they are."""
    first = torch.zeros(len(labels), dtype=torch.bool)
    for k in labels.unique():
        first[(labels == k).nonzero()[0, 0]] = True
    return torch.cat([first.nonzero(), (~first).nonzero()]).flatten()


def untrained(blueprint: Blueprint, images: Tensor, seed: int, runtime: rt.Runtime) -> Teacher:
    """A network of random weights, with the running statistics that it has of training images."""
    rt.seed(seed)
    net = runtime.place(blueprint.build())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over batches
    with torch.no_grad():
        for batch in images.split(BATCH):
            net(batch.to(runtime.device))
    return Teacher(net, name=blueprint.network)
