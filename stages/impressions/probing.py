"""What impressions are worth, measured (arXiv:2007.05441 shows pictures): each network's by another that was trained apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from stages.kinds._percent import percent
from stages.methods.blocks.impression_decoder import Decoder, translate
from stages.networks.template import Impression, Template
from stages.reporting.impressions import BOTH, MEANS

NEIGHBOURS, LAYOUT, BATCH = 5, 4, 64  # images that vote; places a side by which layouts are compared; images at a time


@dataclass(frozen=True)
class Labelled:
    """Images (n, C, H, W) in [0, 1] with their classes (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | Tensor) -> "Labelled":
        return Labelled(self.images[rows], self.labels[rows])

    @property
    def classes(self) -> list[int]:
        """Those that it has, in their order."""
        return self.labels.unique().tolist()

    def even(self, count: int) -> "Labelled":
        """The first `count` of each class, class after class."""
        return self[torch.cat([(self.labels == k).nonzero().flatten()[:count] for k in self.classes])]

    def sets(self, template: Template) -> dict[int, Impression]:
        """The impression of each class as a whole."""
        return {k: template.encoded(self[self.labels == k].images.split(BATCH)).pooled() for k in self.classes}


def by_neighbours(template: Template, gallery: Labelled, queries: Labelled) -> Iterator[tuple[str, float]]:
    """Codes, and how often a query's nearest images of the gallery by them tell its class, in percent.

    All layers' codes, those of means alone, and each layer's. Each number is standardised by the gallery, each layer divided by
    the root of its channels.
    """
    for code, deviations in ((BOTH, True), (MEANS, False)):
        taken = replace(template, deviations=deviations)
        sides = [taken.encoded(one.images.split(BATCH)).layers for one in (gallery, queries)]
        layers = [tuple(torch.cat([each.flatten(1) for each in given], 1) for given in pair) for pair in zip(*sides, strict=True)]
        yield code, votes(layers, gallery, queries)
        if deviations:
            yield from ((f"{code}, layer {i}", votes([layer], gallery, queries)) for i, layer in enumerate(layers, 1))


def votes(layers: Sequence[tuple[Tensor, ...]], gallery: Labelled, queries: Labelled, standardised: bool = True) -> float:
    """How often the nearest rows of the gallery tell a query's class, in percent, by pairs of rows (n, D) and (m, D)."""
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for ours, theirs in layers:
        scaler = StandardScaler(with_mean=standardised, with_std=standardised).fit(ours.double().numpy())
        for side, rows in zip(sides, (ours, theirs), strict=True):
            side.append(torch.from_numpy(scaler.transform(rows.double().numpy())) / rows.shape[1] ** 0.5)
    first, second = (torch.cat(side, 1).numpy() for side in sides)
    voted = KNeighborsClassifier(min(NEIGHBOURS, len(gallery))).fit(first, gallery.labels.numpy()).predict(second)
    return percent(torch.from_numpy(voted) == queries.labels)


def decoded(decoder: Decoder, judge: Template, images: Tensor, says: str) -> dict[str, float]:
    """Decode the impressions of `images` anew, and ask what is left of them.

    The mean distance D at the first and the last step; how often, in percent, the template itself says of a decoded image what it
    says of the image, and how often `judge` finds the image among all.
    """
    template = decoder.template
    images = images.to(template.device)
    with torch.no_grad():
        target = template.encode(images)
    made, first, last = decoder(target, says=says)
    with torch.no_grad():
        agree = template.net.logits(made).argmax(1) == template.net.logits(images).argmax(1)
        found = judge.encode(made).relations(judge.encode(images)).argmin(1).cpu() == torch.arange(len(images))
    return {
        "first": first.mean().item(),
        "last": last.mean().item(),
        "agree": percent(agree),
        "retrieved": percent(found),
    }


def translated(
    decoder: Decoder, judge: Template, known: dict[int, Impression], images: Labelled, further: int, shift: bool
) -> tuple[Tensor, dict[str, float]]:
    """`images`, class after class, on their way to the class `further` on, by the `known` impressions of both.

    How often, in percent, `judge` takes them for the other class before and after, and what is left of their layout: the
    correlation of their 4 x 4 means with the source's.
    """
    sets = {k: one.to(decoder.template.device) for k, one in known.items()}
    other = destinations(list(sets), further)
    source = images.images.to(decoder.template.device)
    parts = [translate(decoder, source[images.labels == k], sets[k], sets[other[k]], shift) for k in images.classes]
    made, aims = torch.cat(parts), torch.tensor([other[k] for k in images.labels.tolist()])
    said = {when: judge.net.logits(x).argmax(1).cpu() == aims for when, x in (("before", source), ("after", made))}
    return made, {**{when: percent(hits) for when, hits in said.items()}, "layout": layout(source, made)}


def destinations(classes: Sequence[int], further: int) -> dict[int, int]:
    """To each class the one that is `further` on, the first ones after the last."""
    return {k: classes[(i + further) % len(classes)] for i, k in enumerate(classes)}


def layout(one: Tensor, other: Tensor) -> float:
    """The mean correlation of the 4 x 4 means of pairs of images (n, C, H, W), in [-1, 1]."""
    first, second = (F.adaptive_avg_pool2d(x, LAYOUT).flatten(1) for x in (one, other))
    return F.cosine_similarity(first - first.mean(1, keepdim=True), second - second.mean(1, keepdim=True)).mean().item()
