"""Is this teacher taken as it was meant? What its answers to labelled images say, and whether another reading fits far better."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment, minimize_scalar
from scipy.stats import binomtest
from torch import Tensor, nn

from stages.datasets.examples import Examples
from stages.kinds import IMAGES, ONE_LABEL, Kind
from stages.kinds._percent import recalls
from stages.networks.adapter import Adapter, Interface, inside
from stages.networks.answers import stored
from stages.networks.weights import Blueprint
from stages.support.seeds import shuffled

TRIED, FEWEST, PIXELS = 512, 64, 2**22  # images on which other readings are tried: up to so many pixels, but so many at least
LARGEST = 256  # pixels a side of a size that is tried
SURE = 1e-3  # the chance of a difference like this between two readings that are equally good
GAIN = 0.02  # of the images, and nats an image: less is not worth a word
STATISTICS = {
    "ImageNet's mean and std": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "mean and std of 0.5": ([0.5], [0.5]),
    "images in [0, 1] as they are": None,
}


@dataclass(frozen=True)
class Reading:
    """Another way to take a teacher, how to write it down, and how well it fits: hits and log-likelihoods (n,)."""

    what: str
    paste: str
    hits: Tensor
    likelihood: Tensor

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100 * self.hits.double().mean().item()


def report(kind: Kind, blueprint: Blueprint, net: nn.Module, val: Examples, logits: Tensor) -> tuple[dict[str, Any], list[str]]:
    """What is kept of the import, and lines for people; `logits` (n, K) are the teacher's of `val`.

    Of kinds with one label an example: recall by class, and other orders of the classes; of images other sizes, channel orders
    and normalisations too, as far as the network takes them.
    """
    if ONE_LABEL not in kind.has:
        return {}, []
    labels, classes = val.label, blueprint.classes
    given = _reading("as it is", "", logits, labels)
    found = zip(classes, recalls(logits.argmax(1), labels, len(classes)), strict=True)
    known = {name: round(value, 2) for name, value in found if value is not None}
    facts: dict[str, Any] = {"images": len(val), "accuracy": round(given.accuracy, 2), "recall": known, "readings": {}}
    others = [order] if (order := _other_order(logits, labels, classes)) else []
    better = [(order, given) for order in others if clearly_better(order, given)]
    if IMAGES in kind.has and stored(net) is None:
        side = (blueprint.interface and blueprint.interface.resize) or blueprint.shape[1:]
        rows = shuffled(len(val))[: max(FEWEST, min(TRIED, PIXELS // (side[0] * side[1])))].sort().values
        some, base = val.subset(rows), _reading("as it is", "", logits[rows], labels[rows])
        for what, paste, tried in _readings(blueprint, net):
            try:
                other = _reading(what, paste, kind.answers(tried, some), some.label)
            except Exception:  # whatever somebody's network says of images that it does not take
                continue
            others.append(other)
            better[:0] = [(other, base)] if clearly_better(other, base) else []
    facts["readings"] = {one.what: round(one.accuracy, 2) for one in others}
    # Of two that explain it as well, the one of images: another order of classes may stand for another order of colours.
    best = max(better, key=lambda pair: round(pair[0].likelihood.mean().item(), 1), default=None)
    return facts, [_line(best[1], best[0])] if best else []


def below(said: float, found: float, n: int) -> list[str]:
    """A line where the `found` percentage of n images is below what the owner `said` by more than chance; else none."""
    share = said / 100
    error = 100 * (max(share * (1 - share), 1 / n) / n) ** 0.5
    line = f"look here: it should have {said:.1f} %, and has {found:.1f} % on {n} validation images"
    return [line] if found < said - 3 * error - 1 else []


def clearly_better(other: Reading, given: Reading) -> bool:
    """Whether it gets more right, or says it with more certainty, than chance allows, image by image."""
    more, fewer = int((other.hits & ~given.hits).sum()), int((given.hits & ~other.hits).sum())
    n, gain = len(given.hits), more - fewer
    if gain >= GAIN * n and binomtest(more, more + fewer, alternative="greater").pvalue < SURE:
        return True
    if gain < 0:
        return False
    differences = (other.likelihood - given.likelihood).double()
    mean, error = differences.mean().item(), differences.std().item() / n**0.5
    return mean > GAIN and mean > 4 * error > 0


def _reading(what: str, paste: str, logits: Tensor, labels: Tensor) -> Reading:
    """With the log-likelihoods at the temperature that suits the labels best: how bold a network is does not count."""
    logits = logits.double()

    def cost(log_tau: float) -> float:
        return torch.nn.functional.cross_entropy(logits / 2.0**log_tau, labels).item()

    tau = 2.0 ** minimize_scalar(cost, bounds=(-4, 6), method="bounded").x
    likelihood = -torch.nn.functional.cross_entropy(logits / tau, labels, reduction="none")
    return Reading(what, paste, logits.argmax(1) == labels, likelihood)


def _other_order(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Reading | None:
    """The order of classes under which most predictions are right (Hungarian method), where it is another."""
    k = len(classes)
    counts = torch.zeros(k, k).index_put_((labels, logits.argmax(1)), torch.ones(len(labels)), accumulate=True)
    taken = linear_sum_assignment((counts + 0.5 * torch.eye(k)).numpy(), maximize=True)[1]  # the logit of each class
    if taken.tolist() == list(range(k)):
        return None
    ordered = [name for _, name in sorted(zip(taken.tolist(), classes, strict=True))]
    what = "the classes in the order of their names as text" if ordered == sorted(classes) else "the classes in another order"
    return _reading(what, f"classes: {json.dumps(ordered)}` beside the images' `path", logits[:, torch.from_numpy(taken)], labels)


def _readings(blueprint: Blueprint, net: nn.Module) -> list[tuple[str, str, nn.Module]]:
    """What images may be like otherwise: in words, as parameters, and the teacher that takes them so."""
    form = blueprint.form
    channels, (height, width) = blueprint.shape[0], form.resize or blueprint.shape[1:]
    found: list[tuple[str, str, Interface]] = []
    for what, given in STATISTICS.items():
        if given and len(given[0]) not in (1, channels):
            continue
        mean, std = ((values * channels)[:channels] for values in given) if given else (None, None)
        paste = f"mean: {mean or [0.0] * channels}, std: {std or [1.0] * channels}"
        found.append((what, paste, replace(form, mean=mean, std=std, range=1)))
    if form.range == 1:
        found.append(("images in [0, 255]", "range: 255", replace(form, mean=None, std=None, range=255)))
    if channels == 3:
        other = "rgb" if form.order == "bgr" else "bgr"
        found.append((f"channels in the order {other.upper()}", f"order: {other}", replace(form, order=other)))
    for factor in (0.5, 2, 4):
        high, wide = int(height * factor), int(width * factor)
        if max(high, wide) > LARGEST:
            continue
        paste = f"resize: {high}" if high == wide else f"resize: [{high}, {wide}]"
        found.append((f"images of {high} x {wide}", paste, replace(form, resize=(high, wide))))
    device, bare = next(net.parameters()).device, inside(net)
    others = [(what, paste, wanted) for what, paste, wanted in found if wanted != form]
    return [(what, paste, Adapter(bare, wanted).to(device).eval()) for what, paste, wanted in others]


def _line(given: Reading, other: Reading) -> str:
    return (
        f"look here: with {other.what} the teacher is right on {other.accuracy:.1f} % of the validation images, as it is "
        f"on {given.accuracy:.1f} %; if so, write `{other.paste}`"
    )
