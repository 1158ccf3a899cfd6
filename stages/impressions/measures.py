"""What is measured of impressions and drawn: one function a table or figure."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from stages.datasets.examples import PREDICTED, pack
from stages.impressions import probing
from stages.impressions.room import CLASSES, REFERENCE, Room, shown_images
from stages.networks.template import joined
from stages.reporting.figures import impressions as figures
from stages.reporting.figures.panels import first_samples
from stages.reporting.impressions import BOTH, MEANS, PIXELS, RANDOM, REPLACED, SHIFTED, TRAINED
from stages.support.files import replacing

DECODED, SHOWN, GRIDS = 32, 8, (1, 2, 4, 8)
FURTHER = 4  # classes of ten further on, that images are translated to: a horse to an automobile in CIFAR-10


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
        f"{room.name}: an image of each class on its way to another",
        columns=[f"{names[k]} → {names[aims[k]]}" for k in images.classes[:CLASSES]],
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


def relate(room: Room, runs: Sequence[tuple[str, int]]) -> None:
    """Figures, and sets.csv: how sets of images are related, how images are, and which of the pool are next to a class's."""
    template, kind = room.teacher, room.kind
    sets = {f"validation: {kind.classes[k]}": one for k, one in room.gallery.sets(template).items() if k < CLASSES}
    of_pool, predicted = template.encoded(kind.shown(room.pool, probing.BATCH)), room.pool.columns[PREDICTED]
    sets["pool"] = of_pool[:REFERENCE].pooled()
    for k in [k for k in predicted.unique().tolist() if k < CLASSES]:
        sets[f"pool, seen as {kind.classes[k]}"] = of_pool[predicted == k][:REFERENCE].pooled()
    for row, made, _ in first_samples(room.places, pd.DataFrame(runs, columns=["method", "seed"])):
        sets[f"made by {row}"] = template.encoded(kind.shown(pack(made), probing.BATCH)).pooled()
    every = joined(list(sets.values()))
    every.save(room.places.codes)
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
    pictures = [
        torch.cat([image[None], shown_images(kind, room.pool, rows)]) for image, rows in zip(one.images, nearest, strict=True)
    ]
    title = f"{room.name}: a validation image of each class, and the images of the pool that are next to it"
    figures.rows(pictures, [kind.classes[k] for k in one.labels.tolist()], room.folder, "neighbours", title, gap=[1])
