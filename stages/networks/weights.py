"""Trained networks on disk: weights.safetensors and a card.json that says what they are and how they were made."""

import copy
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.engine.teacher import Teacher
from stages.networks.build import build
from stages.networks.normalize import Normalized
from stages.support import files
from stages.support.errors import UserError
from stages.support.files import read_tensors, save_tensors, write_json
from stages.support.plugins import nearest

WEIGHTS, CARD = "weights.safetensors", "card.json"


@dataclass(frozen=True)
class Blueprint:
    """All that it takes to build a network of inputs of `shape` and logits of `classes`.

    Images come in [0, 1] and are normalised inside with `mean` and `std`, one a channel; without these, inputs stay as they are.
    `text` is of an encoder of texts: the `length` of an input, `Vocabulary.tokens`, and the `model`'s own configuration where it
    was imported. Of several networks that answer as one, `parts` are theirs.
    """

    network: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    mean: list[float] | None = None
    std: list[float] | None = None
    text: dict[str, Any] | None = None
    parts: tuple["Blueprint", ...] = ()

    @property
    def known(self) -> list[int]:
        """How many classes each of the parts answers for; of one network, all."""
        return [len(one.classes) for one in self.parts or (self,)]

    def build(self) -> nn.Module:
        """The network with fresh weights, behind its normaliser."""
        if self.parts:
            return Teacher(*(part.build() for part in self.parts), name=self.network)
        net = build(self.network, len(self.classes), self.text or self.shape)
        return net if self.mean is None or self.std is None else Normalized(net, self.mean, self.std)

    @classmethod
    def restored(cls, facts: dict[str, Any]) -> "Blueprint":
        """From what `dataclasses.asdict` made of one, by way of JSON."""
        parts = tuple(map(cls.restored, facts["parts"]))
        return cls(**{**facts, "classes": tuple(facts["classes"]), "shape": tuple(facts["shape"]), "parts": parts})


def bare(net: nn.Module) -> nn.Module:
    """The network without what we put around it: what is stored."""
    inner: nn.Module = net.get_submodule("net") if getattr(net, "wraps", False) else net
    return inner


def save(folder: Path, blueprint: Blueprint, net: nn.Module, example: Tensor, facts: dict[str, Any]) -> None:
    """Write weights and card, each atomically; `facts` (how it was made) go into the card. `example` is one input, (1, ...).

    All that `load` needs lies in the file of weights; the card is for people, and for tables.
    """
    tensors = {f"{prefix}{key}": value for prefix, part in _stored(net).items() for key, value in part.state_dict().items()}
    save_tensors(folder / WEIGHTS, tensors, asdict(blueprint))
    write_json(folder / CARD, {**asdict(blueprint), **architecture(net, example), **facts})


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


def import_weights(
    net: nn.Module,
    path: Path,
    sha256: str,
    key: str,
    without: Sequence[str] = (),
    into: str = "",
    classes: Sequence[str] = (),
) -> None:
    """Fill `net`, or its module called `into`, from the user's safetensors or state_dict file at `path`, whose hash is `sha256`.

    Tensors whose names begin with a word of `without` are left out on both sides. Raises UserError for a missing file, another
    hash, an unreadable file, or tensors that do not fit the network; `key` is the section that says so. `classes` are those that
    the network was built for, where they are to be the file's.
    """
    if not path.is_file():
        raise UserError(f"the weights {path} are missing; put the file there, or mend `{key}.path`")
    if (found := files.sha256(path)) != sha256:
        raise UserError(f"{path} has sha256 {found}, and `{key}.sha256` says {sha256}; take the right file, or mend the line")
    known = dict(bare(net).named_modules())
    if into not in known:
        raise UserError(f"{key}.into: the network has no module '{into}'; {nearest(into, known)}")
    expected, given = known[into].state_dict(), _plain_state(path)
    if idle := [word for word in without if not any(name.startswith(word) for name in (*expected, *given))]:
        raise UserError(f"{key}.without: the network has no tensor whose name begins with '{idle[0]}'")
    state = {name: tensor for name, tensor in given.items() if not name.startswith(tuple(without))}
    expected = {name: tensor for name, tensor in expected.items() if not name.startswith(tuple(without))}
    wrong = [f"no '{name}'" for name in expected if name not in state]
    wrong += [f"unexpected '{name}'" for name in state if name not in expected]
    shapes = {
        name: (tuple(state[name].shape), tuple(tensor.shape))
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    }
    if shapes and not wrong and all(mine == (len(classes), *given[1:]) for given, mine in shapes.values()):
        raise UserError(
            f"{path} answers for {next(iter(shapes.values()))[0][0]} classes, and the labelled images have {len(classes)}: "
            f"{', '.join(classes)}; give images of each of the teacher's classes, and of no other"
        )
    wrong += [f"'{name}' is {given}, not {mine}" for name, (given, mine) in shapes.items()]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{path} does not fit the network beside `{key}`: {', '.join(wrong[:3])}{more}; name the network it is of"
        )
    known[into].load_state_dict(state, strict=not without)


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


def _plain_state(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, out of the wrappings that training scripts leave around a state_dict."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds Python objects, which may run code, or is damaged; save the tensors alone where it was made, by "
            "torch.save(net.state_dict(), path)"
        ) from None
    except (OSError, RuntimeError, EOFError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as a safetensors or state_dict file ({reason})") from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
        raise UserError(f"{path} holds no state_dict (names and tensors); save one with torch.save(net.state_dict(), path)")
    return {name.removeprefix("module."): value for name, value in state.items()}


def architecture(net: nn.Module, example: Tensor) -> dict[str, int]:
    """`params`, and `macs` of one `example` (1, ...): multiply-accumulates of convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    net = copy.deepcopy(net).cpu().eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(example)
    return {"params": sum(p.numel() for p in net.parameters()), "macs": counter.get_total_flops() // 2}
