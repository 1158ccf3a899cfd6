"""Trained networks on disk: weights.safetensors and a card.json that says what they are and how they were made."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from stages.engine.teacher import Teacher
from stages.networks.adapter import Adapter, Interface, inside
from stages.networks.answers import stored
from stages.networks.build import build
from stages.networks.complexity import macs
from stages.networks.normalize import Normalized
from stages.support.errors import UserError
from stages.support.files import read_tensors, save_tensors, write_json
from stages.support.plugins import nearest

WEIGHTS, CARD = "weights.safetensors", "card.json"


@dataclass(frozen=True)
class Blueprint:
    """All that it takes to build a network of inputs of `shape` and logits of `classes`.

    Images come in [0, 1] and are normalised inside with `mean` and `std`, one a channel; without these, inputs stay as they are.
    `text` is of an encoder of texts: the `length` of an input, `Vocabulary.tokens`, and the `model`'s own configuration where it
    was imported; `model` is that of an imported network for images. An `interface` stands in place of the normalisation where a
    network wants images, or gives answers, in another way. Of several networks that answer as one, `parts` are theirs.
    """

    network: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    mean: list[float] | None = None
    std: list[float] | None = None
    text: dict[str, Any] | None = None
    parts: tuple["Blueprint", ...] = ()
    model: dict[str, Any] | None = None
    interface: Interface | None = None

    @property
    def known(self) -> list[int]:
        """How many classes each of the parts answers for; of one network, all."""
        return [len(one.classes) for one in self.parts or (self,)]

    @property
    def form(self) -> Interface:
        """How the network wants images and answers: its interface, or one that only normalises."""
        return self.interface or Interface(mean=self.mean, std=self.std)

    def build(self) -> nn.Module:
        """The network with fresh weights, behind its normaliser."""
        if self.parts:
            return Teacher(*(part.build() for part in self.parts), name=self.network)
        if (wanted := self.interface) is None:
            net = build(self.network, len(self.classes), self.text or self.shape, self.model)
            return net if self.mean is None or self.std is None else Normalized(net, self.mean, self.std)
        shape = (self.shape[0], *wanted.resize) if wanted.resize else self.shape
        return Adapter(build(self.network, wanted.outputs or len(self.classes), self.text or shape, self.model), wanted)

    def facts(self) -> dict[str, Any]:
        """As JSON; what imported networks alone have is left out of others."""
        said = {**asdict(self), "parts": [part.facts() for part in self.parts]}
        return {key: value for key, value in said.items() if value is not None or key not in ("model", "interface")}

    @classmethod
    def restored(cls, facts: dict[str, Any]) -> "Blueprint":
        """From what `facts` said, by way of JSON."""
        parts, wanted = tuple(map(cls.restored, facts["parts"])), facts.get("interface")
        lists = {key: tuple(facts[key]) for key in ("classes", "shape")}
        return cls(**{**facts, **lists, "parts": parts, "interface": wanted and Interface.restored(wanted)})


def bare(net: nn.Module) -> nn.Module:
    """The network without what we put around it: what is stored."""
    while getattr(net, "wraps", False):
        net = net.get_submodule("net")
    return net


def save(folder: Path, blueprint: Blueprint, net: nn.Module, example: Tensor, facts: dict[str, Any]) -> None:
    """Write weights and card, each atomically; `facts` (how it was made) go into the card. `example` is one input, (1, ...).

    All that `load` needs lies in the file of weights; the card is for people, and for tables.
    """
    tensors = {f"{prefix}{key}": value for prefix, part in _stored(net).items() for key, value in part.state_dict().items()}
    save_tensors(folder / WEIGHTS, tensors, blueprint.facts())
    write_json(folder / CARD, {**blueprint.facts(), **architecture(net, example), **facts})


def load(folder: Path) -> tuple[Blueprint, nn.Module]:
    """Read what `save` wrote; raises UserError where it is missing or damaged."""
    state, facts = read_tensors(folder / WEIGHTS)
    blueprint = Blueprint.restored(facts)
    net = blueprint.build()
    for prefix, part in _stored(net).items():
        part.load_state_dict({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
    return blueprint, net


def _stored(net: nn.Module) -> dict[str, nn.Module]:
    """What is stored of a network, by the beginning of its tensors' names: of several that answer as one, each."""
    return {f"{i}.": bare(part) for i, part in enumerate(net.parts)} if isinstance(net, Teacher) else {"": bare(net)}


def modules(net: nn.Module, names: Sequence[str], key: str, of: str = "student") -> list[nn.Module]:
    """The modules of the network with these names; raises UserError that names `key` for one that it has not."""
    known = dict(bare(net).named_modules())
    for name in names:
        if name not in known:
            raise UserError(f"{key}: the {of}'s network has no module '{name}'; {nearest(name, known)}")
    return [known[name] for name in names]


def copy_layers(net: nn.Module, source: nn.Module, layers: Sequence[str] | Literal["spread", "first"], key: str) -> None:
    """Copy the modules called `layers` of one network into another of the same names and forms, parameters and buffers.

    Of encoders, `spread` or `first`: all but the layers, and as many of these as `net` has, evenly spaced with the last, or the
    first ones. Raises UserError that names `key` where one of them lacks a module, or the two differ.
    """
    source = inside(source)
    if isinstance(layers, str):
        shallower: Any = getattr(net, "shallower", None)
        if shallower is None or type(net) is not type(source):
            raise UserError(f"{key}: `{layers}` is of encoders of texts; name the modules to copy instead")
        _fill(bare(net), shallower(source, layers), layers, key)
        return
    for name, mine, given in zip(layers, modules(net, layers, key), modules(source, layers, key, "teacher"), strict=True):
        _fill(mine, given.state_dict(), name, key)


def _fill(net: nn.Module, given: dict[str, Tensor], what: str, key: str) -> None:
    if {k: v.shape for k, v in net.state_dict().items()} != {k: v.shape for k, v in given.items()}:
        raise UserError(f"{key}: '{what}' has another form in the teacher than in the student; leave it out")
    net.load_state_dict(given)


def architecture(net: nn.Module, example: Tensor) -> dict[str, int]:
    """`params`, and `macs` of one `example` (1, ...): multiply-accumulates of convolutions and matrix products.

    Answers that were given once have neither.
    """
    if stored(net) is not None:
        return {"params": 0, "macs": 0}
    net = copy.deepcopy(net).cpu().eval()
    held = sum(getattr(module, "held", 0) for module in net.modules())  # of a program, whose parameters are its own affair
    return {"params": held + sum(p.numel() for p in net.parameters()), "macs": macs(net, example)}
