"""Stage `impress`: what a task's teacher remembers, as numbers and pictures (Impression Space, arXiv:2007.05441).

Everything here is of validation images, of the pool and of what methods made; the test split stays closed.
Usage: python -m stages.impress TASK
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from stages.datasets.examples import PREDICTED, Examples, pack
from stages.engine import runtime as rt
from stages.engine.provenance import provenance
from stages.engine.teacher import Teacher
from stages.impressions import probing
from stages.impressions.probing import Labelled
from stages.jobs.setup import open_teacher
from stages.jobs.teaching import as_template
from stages.kinds import Kind
from stages.methods.blocks.impression_decoder import Decoder
from stages.networks import weights
from stages.networks.template import Template, joined
from stages.networks.weights import Blueprint
from stages.reporting import impressions
from stages.reporting.figures import impressions as figures
from stages.reporting.figures.panels import first_samples
from stages.reporting.impressions import BOTH, MEANS, PIXELS, RANDOM, REPLACED, SHIFTED, TRAINED
from stages.settings import params, paths, plans
from stages.settings.params import Params
from stages.support.errors import UserError, run_script
from stages.support.files import replacing, replacing_folder
from stages.support.seeds import shuffled

GALLERY, QUERIES, REFERENCE = 1000, 500, 1000  # images at most: who votes (or ten a class), who is voted for, for the scales
DECODED, SHOWN, CLASSES, GRIDS = 32, 8, 10, (1, 2, 4, 8)
FURTHER = 4  # classes of ten further on, that images are translated to: a horse to an automobile in CIFAR-10


@dataclass(frozen=True)
class Room:
    """What the measurements share: templates by kind and seed, images, and where results go."""

    name: str
    kind: Kind
    blueprint: Blueprint
    templates: dict[tuple[str, int], Template]
    gallery: Labelled
    queries: Labelled
    pool: Examples
    steps: int
    folder: Path

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


def main(name: str) -> None:
    """Write numbers.csv, tables.md and figures into results/impressions/TASK."""
    settings = params.load()
    as_template(settings, name)
    plans.of_stage(settings, "impress", name).agree(paths.plan(name, "impress"))
    begun = time.monotonic()
    with rt.running("fp32") as runtime, replacing_folder(paths.impressions(name)) as folder:
        room = open_room(settings, name, runtime, folder)
        rt.seed(0)
        found = [by_neighbours(room), decode(room), translate(room)]
        rt.seed(1)
        reconstruct(room)
        synthesise(room)
        relate(settings, room)
        made = provenance(runtime, time.monotonic() - begun)
        _write(room, found, made)
    print((paths.impressions(name) / "tables.md").read_text())


def _write(room: Room, found: list[pd.DataFrame], made: dict[str, Any]) -> None:
    counts = {"voters": len(room.gallery), "told": len(room.queries), "decoded": min(DECODED, len(room.queries))}
    facts = {"network": room.blueprint.network, **counts, **{key: made[key] for key in ("revision", "device", "seconds")}}
    with replacing(room.folder / "numbers.csv") as temporary:
        pd.concat(found).to_csv(temporary, index=False, float_format="%.5g")
    with replacing(room.folder / "tables.md") as temporary:
        temporary.write_text(impressions.written(room.name, facts, *found))


def open_room(settings: Params, name: str, runtime: rt.Runtime, folder: Path) -> Room:
    """The templates, trained and random, and the images that they look at."""
    blueprint, kind, teacher = open_teacher(name, settings.task(name), runtime)
    train, val = (Examples.load(paths.split(name, split)) for split in ("train", "val"))
    pool = Examples.load(paths.pool(name) / "pool.safetensors")
    few = settings.run.scale == "smoke"
    reference = _images(kind, pool, shuffled(len(pool))[:REFERENCE])
    trained = {0: teacher}
    for seed in settings.impress.seeds:
        trained[seed] = Teacher(runtime.place(weights.load(paths.template(name, seed))[1]), name=blueprint.network)
    nets = {(TRAINED, seed): net for seed, net in trained.items()}
    if RANDOM in settings.impress.templates:
        seen = _images(kind, train, shuffled(len(train))[:REFERENCE])
        nets |= {(RANDOM, seed): untrained(blueprint, seen, seed, runtime) for seed in trained}
    templates = {key: Template.of(net, kind.blank(1)).scaled(reference.split(probing.BATCH)) for key, net in nets.items()}
    order = shuffled(len(val))
    order = order[each_class_first(val.label[order])]
    count = min(max(GALLERY, 10 * len(kind.classes)), 2 * len(val) // 3)
    known = Labelled(_images(kind, val, order[: count + QUERIES]), val.label[order[: count + QUERIES]])
    if len(known[:count].classes) < len(kind.classes):
        raise UserError(f"impress: the validation split of {name} has no image of some class; give it more labelled images")
    return Room(
        name,
        kind,
        blueprint,
        templates,
        known[:count],
        known[count:],
        pool.subset(shuffled(len(pool))),
        3 if few else 0,
        folder,
    )


def _images(kind: Kind, examples: Examples, rows: Tensor) -> Tensor:
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
        for batch in images.split(probing.BATCH):
            net(batch.to(runtime.device))
    return Teacher(net, name=blueprint.network)


def by_neighbours(room: Room) -> pd.DataFrame:
    """How often the nearest validation images tell a class: by pixels, and by each template's codes."""
    sides = [(one.images.flatten(1),) for one in (room.gallery, room.queries)]
    raw = probing.votes([sides[0] + sides[1]], room.gallery, room.queries, standardised=False)
    lines = [{"code": PIXELS, "template": "none", "seed": 0, "top1": raw}]
    for (what, seed), template in room.templates.items():
        for code, top1 in probing.by_neighbours(template, room.gallery, room.queries):
            lines.append({"code": code, "template": what, "seed": seed, "top1": top1})
    found = pd.DataFrame(lines)
    figures.by_code(found, room.folder, f"{room.name}: {len(room.queries)} validation images, {len(room.gallery)} voters")
    return found.assign(table="neighbours")


def decode(room: Room) -> pd.DataFrame:
    """How much of an image its impression keeps: by trained and random templates, with and without deviations."""
    lines = []
    for (what, seed), template in room.templates.items():
        for code, deviations in ((BOTH, True), (MEANS, False)):
            decoder = room.decoder(replace(template, deviations=deviations))
            said = probing.decoded(decoder, room.judge(seed), room.queries[:DECODED].images, f"decode: {what} {seed}, {code}")
            lines.append({"code": code, "template": what, "seed": seed, **said})
    return pd.DataFrame(lines).assign(table="decoding")


def translate(room: Room) -> pd.DataFrame:
    """Images of every class on their way to another, by impressions shifted or replaced; a figure of the teacher's."""
    images, lines, shown = room.queries.even(SHOWN)[: SHOWN * CLASSES], [], dict[str, Tensor]()
    further = max(1, round(FURTHER * len(room.gallery.classes) / 10))
    for (what, seed), template in room.templates.items():
        if what != TRAINED:
            continue
        decoder, judge, known = room.decoder(template), room.judge(seed), room.gallery.sets(template)
        for how, shift in ((SHIFTED, True), (REPLACED, False)):
            made, said = probing.translated(decoder, judge, known, images, further, shift)
            lines.append({"code": how, "template": what, "seed": seed, **said})
            shown.setdefault(how, made.cpu())
    first = [(images.labels == k).nonzero()[0, 0] for k in images.classes[:CLASSES]]
    names, aims = room.kind.classes, probing.destinations(room.gallery.classes, further)
    figures.rows(
        [torch.stack([one[i] for i in first]) for one in (images.images, shown[SHIFTED], shown[REPLACED])],
        ["source", "impression shifted", "impression replaced"],
        room.folder,
        "translation",
        f"{room.name}: " + ", ".join(f"{names[k]} to {names[aims[k]]}" for k in images.classes[:5]) + ", ...",
    )
    return pd.DataFrame(lines).assign(table="translation")


def reconstruct(room: Room) -> None:
    """Figure: images decoded from their impressions on finer and finer grids, by the teacher and by random weights."""
    images = room.queries.even(1)[:CLASSES].images
    pictures, names = [images], ["validation image"]
    for what in (TRAINED, RANDOM):
        if (template := room.templates.get((what, 0))) is None:
            continue
        for grid in GRIDS:
            finer = replace(template, grid=grid)
            with torch.no_grad():
                target = finer.encode(images.to(finer.device))
            pictures.append(room.decoder(finer)(target)[0].cpu())
            names.append(f"{what}, {grid} x {grid}")
    title = f"{room.name}: decoded from impressions on grids"
    figures.rows(pictures, names, room.folder, "reconstructions", title)


def synthesise(room: Room) -> None:
    """Figure: images that match the impression of a class, drawn from noise; to the right each to an aim of its own."""
    template, half = room.teacher, SHOWN // 2
    targets = []
    for k in range(len(room.classes)):
        mine = template.encoded(room.gallery.images[room.gallery.labels == k].split(probing.BATCH))
        targets += [mine.pooled().expand(half), mine.drawn(half)]
    made = room.decoder(template)(joined(targets).to(template.device), says="synthesise")[0].cpu()
    title = f"{room.name}: images that match the impression of a class; right: each an impression of its own"
    figures.rows(made.split(SHOWN), room.classes, room.folder, "synthesis", title, gap=[half])


def relate(settings: Params, room: Room) -> None:
    """Figures, and sets.csv: how sets of images are related, how images are, and which of the pool are next to a class's."""
    template, kind = room.teacher, room.kind
    sets = {f"validation: {kind.classes[k]}": one for k, one in room.gallery.sets(template).items() if k < CLASSES}
    of_pool, predicted = template.encoded(kind.shown(room.pool, probing.BATCH)), room.pool.columns[PREDICTED]
    sets["pool"] = of_pool[:REFERENCE].pooled()
    for k in [k for k in predicted.unique().tolist() if k < CLASSES]:
        sets[f"pool, seen as {kind.classes[k]}"] = of_pool[predicted == k][:REFERENCE].pooled()
    for row, made, _ in first_samples(room.name, pd.DataFrame(settings.run.runs, columns=["method", "seed"])):
        sets[f"made by {row}"] = template.encoded(kind.shown(pack(made), probing.BATCH)).pooled()
    every = joined(list(sets.values()))
    every.save(paths.codes(room.name))
    distances = every.relations(every)
    with replacing(room.folder / "sets.csv") as temporary:
        pd.DataFrame(distances.numpy(), list(sets), list(sets)).to_csv(temporary, float_format="%.4g")
    figures.relations(distances, list(sets), room.folder, "sets", f"{room.name}: relations of sets, exp(-D / median D)")
    some = room.gallery.even(SHOWN)[: SHOWN * CLASSES]
    codes = template.encoded(some.images.split(probing.BATCH))
    names = [kind.classes[k] for k in some.labels.tolist()]
    figures.relations(codes.relations(codes), names, room.folder, "images", f"{room.name}: relations of validation images")
    one = room.queries.even(1)[:CLASSES]
    nearest = template.encoded(one.images.split(probing.BATCH)).relations(of_pool).topk(SHOWN, largest=False).indices
    pictures = [torch.cat([image[None], _images(kind, room.pool, rows)]) for image, rows in zip(one.images, nearest, strict=True)]
    title = f"{room.name}: a validation image of each class, and the images of the pool that are next to it"
    figures.rows(pictures, [kind.classes[k] for k in one.labels.tolist()], room.folder, "neighbours", title, gap=[1])


if __name__ == "__main__":
    run_script(main, "task")
