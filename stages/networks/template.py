"""A frozen network as a template: images are described by the statistics of its responses (arXiv:2007.05441)."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.engine.teacher import Teacher
from stages.losses import impressions
from stages.losses.impressions import Statistics
from stages.losses.precision import full
from stages.networks.taps import listening, stage_ends
from stages.support.errors import UserError
from stages.support.files import digest, read_tensors, save_tensors


@dataclass(frozen=True)
class Impression:
    """What a template remembers of n images, or sets of images: by layer, its statistics, (n, C, g, g) each.

    `template` is a digest of the network, of what is taken of it, and of the layers' `scales`; `size` (H, W) is the images'.
    """

    layers: tuple[Statistics, ...]
    scales: tuple[float, ...]
    template: str
    size: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.layers[0][0])

    def __getitem__(self, rows: slice | Tensor) -> "Impression":
        return self._with(tuple(one[rows] for one in given) for given in self.layers)

    def to(self, device: torch.device) -> "Impression":
        """The same on another device."""
        return self._with(tuple(one.to(device) for one in given) for given in self.layers)

    def expand(self, n: int) -> "Impression":
        """One impression n times."""
        return self._with(tuple(one.expand(n, -1, -1, -1) for one in given) for given in self.layers)

    def pooled(self) -> "Impression":
        """Pool the impressions of all images as one set."""
        return self._with(map(impressions.pooled, self.layers))

    def drawn(self, n: int) -> "Impression":
        """n targets around those of the images."""
        return self._with(impressions.drawn(given, n) for given in self.layers)

    def shifted(self, source: "Impression", target: "Impression", amount: float = 1.0) -> "Impression":
        """Moved as the set `source` is moved to the set `target`; raises ValueError where their templates are not the same."""
        _same(self, source)
        _same(self, target)
        return self._with(
            impressions.shifted(*given, amount) for given in zip(self.layers, source.layers, target.layers, strict=True)
        )

    def vectors(self) -> Tensor:
        """Rows (n, D) whose squared Euclidean distances are those of the impressions."""
        return impressions.vectors(self.layers, self.scales)

    def distance(self, other: "Impression") -> Tensor:
        """D of n pairs, or of all and one, (n,); raises ValueError where the templates are not the same."""
        _same(self, other)
        return (self.vectors() - other.vectors()).square().sum(1)

    def relations(self, other: "Impression") -> Tensor:
        """D of each of n and each of m, (n, m); raises ValueError where the templates are not the same."""
        _same(self, other)
        return impressions.relations(self.vectors(), other.vectors())

    def _with(self, layers: Iterable[Statistics]) -> "Impression":
        return replace(self, layers=tuple(layers))

    def save(self, path: Path) -> None:
        """Write one safetensors file, atomically."""
        tensors = {f"{i}.{j}": one for i, given in enumerate(self.layers) for j, one in enumerate(given)}
        save_tensors(path, tensors, {"scales": self.scales, "template": self.template, "size": self.size})

    @classmethod
    def load(cls, path: Path) -> "Impression":
        """Read what `save` wrote; raises UserError where it is missing."""
        tensors, info = read_tensors(path)
        layers = defaultdict[int, list[Tensor]](list)
        for i, j in sorted(tuple(map(int, name.split("."))) for name in tensors):
            layers[i].append(tensors[f"{i}.{j}"])
        return cls(tuple(map(tuple, layers.values())), tuple(info["scales"]), info["template"], tuple(info["size"]))


def joined(parts: Sequence[Impression]) -> Impression:
    """Several as one; raises ValueError where their templates are not the same."""
    for one in parts[1:]:
        _same(parts[0], one)
    layers = zip(*(one.layers for one in parts), strict=True)
    return replace(parts[0], layers=tuple(tuple(map(torch.cat, zip(*given, strict=True))) for given in layers))


def _same(one: Impression, other: Impression) -> None:
    if (one.template, one.size) != (other.template, other.size):
        raise ValueError(
            f"impressions of two templates or sizes of image: {one.template} at {one.size} and {other.template} at {other.size}"
        )


@dataclass(frozen=True)
class Template:
    """A teacher of one network, of whose responses means and, unless switched off, deviations are taken on a grid.

    Its layers are the last batch-norm input of each stage, or the stage's output where a network has no batch normalisation.
    """

    net: Teacher
    ends: tuple[tuple[nn.Module, bool], ...]
    shape: tuple[int, ...]
    grid: int = 1
    deviations: bool = True
    scales: tuple[float, ...] = ()
    digest: str = field(default="", repr=False)

    @classmethod
    def of(cls, net: Teacher, blank: Tensor, ends: Sequence[tuple[nn.Module, bool]] = ()) -> "Template":
        """Make the template of a network for images like `blank` (1, C, H, W); raises UserError where it names no stages.

        `ends` are other layers: modules whose inputs are listened to, or, with True, their outputs.
        """
        ends = tuple(ends) or tuple(stage_ends(net, blank))
        names = {module: name for name, module in net.named_modules()}
        listened = json.dumps([(names[module], output) for module, output in ends])
        return cls(net, ends, tuple(blank.shape[1:]), scales=(1.0,) * len(ends), digest=digest(net.state_dict(), listened)[:16])

    @property
    def device(self) -> torch.device:
        """Where the network is, and images and targets must be."""
        return next(self.net.parameters()).device

    @property
    def identity(self) -> str:
        """Changes with the network and with all that is taken of it."""
        taken = [self.digest, self.grid, self.deviations, self.scales]
        return hashlib.sha256(json.dumps(taken).encode()).hexdigest()[:16]

    def scaled(self, reference: Iterable[Tensor]) -> "Template":
        """With the scales of batches (b, C, H, W) of images: without them layers of small responses would not count."""
        return self.scaled_by(replace(self, grid=1, deviations=False).encoded(reference))

    def scaled_by(self, reference: Impression) -> "Template":
        """With the scales of the `reference`'s impressions, on a grid of one cell."""
        return replace(self, scales=tuple(impressions.scale(given[0]) for given in reference.layers))

    def respond(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (n, K) of images (n, C, H, W) in [0, 1], and the responses (n, C, H', W') of each layer; with gradients."""
        into, out_of = ([module for module, output in self.ends if output == side] for side in (False, True))
        with listening(into) as entered, listening(out_of, outputs=True) as left:
            logits = self.net(images, eager=True)
        sides = iter(entered), iter(left)
        return logits, [next(sides[output]) for _, output in self.ends]

    def impression(self, responses: Sequence[Tensor], size: Sequence[int]) -> Impression:
        """The impression of images of `size` (H, W) with these responses."""
        layers = tuple(impressions.statistics(one, self.grid, self.deviations) for one in responses)
        return Impression(layers, self.scales, self.identity, tuple(size))

    def encode(self, images: Tensor) -> Impression:
        """Encode images (n, C, H, W) in [0, 1], each on its own."""
        return self.impression(self.respond(images)[1], images.shape[2:])

    @torch.no_grad()
    def encoded(self, batches: Iterable[Tensor]) -> Impression:
        """Encode all batches (b, C, H, W) of images, without a graph, on the CPU."""
        return joined([self.encode(images.to(self.device)).to(torch.device("cpu")) for images in batches])

    def remembered(self) -> Impression:
        """The impression of the training set: batch normalisation's running statistics; raises UserError where there are none.

        Raises ValueError on a grid: they are of whole images.
        """
        if self.grid > 1:
            raise ValueError(f"batch normalisation keeps statistics of whole images, not on a grid of {self.grid} x {self.grid}")
        layers = list[Statistics]()
        for module, output in self.ends:
            if output or not isinstance(module, nn.BatchNorm2d) or module.running_mean is None or module.running_var is None:
                raise UserError(f"the network '{self.net.name}' keeps no running statistics of every stage (BatchNorm2d)")
            mean, var = (full(value).view(1, -1, 1, 1) for value in (module.running_mean, module.running_var))
            layers.append((mean, (var + impressions.EPSILON).sqrt()) if self.deviations else (mean,))
        return Impression(tuple(layers), self.scales, self.identity, self.shape[1:])
