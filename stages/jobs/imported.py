"""The user's own teacher, whatever its make: from its section and its files to a network that answers as ours do."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.datasets.examples import Examples, pack
from stages.kinds import IMAGES, Kind
from stages.networks.adapter import Adapter, Interface, inside
from stages.networks.answers import PROBABILITIES, ROUNDED, stored
from stages.networks.build import find
from stages.networks.configuration import NOTHING, Configuration
from stages.networks.files import contents
from stages.networks.importing import checked, fitted, import_weights
from stages.networks.program import Program
from stages.networks.weights import Blueprint, bare
from stages.settings.catalogue import MAKES
from stages.settings.task import Teacher as Taught
from stages.settings.task import Weights
from stages.support.errors import UserError, about
from stages.support.files import distinct, weights_in

NEAR_ONE = 1e-3  # how far the sum of a row of probabilities may be from it


def imported(taught: Taught, kind: Kind, examples: Examples, where: str) -> tuple[Blueprint, nn.Module, list[str]]:
    """The teacher that `taught` describes, with its weights, and lines that say what was read, taken off or assumed.

    `examples` are of the task's classes; images may say by which statistics a student normalises. `where` is its section. Raises
    UserError for files that are missing, of another kind, or do not fit, and for what no task of this kind can use.
    """
    blueprint, net, notes = shell(taught, kind, examples, where)
    given = taught.weights
    assert given is not None
    path, where = weights_in(Path(given.path)), _place(taught, where)
    if (answers := stored(net)) is not None:
        with about(where):
            answers.read(path, blueprint.classes, taught.gives)
        return blueprint, net, [*notes, f"it was asked once: there are answers to {len(answers.logits):,} images"]
    if isinstance(bare(net), Program):
        return blueprint, net, notes
    file, _ = find(taught.network)
    with about(where):
        if hasattr(file, "load") and not given.without and file.load(path, bare(net)):
            return blueprint, net, notes
    line = import_weights(net, given, where, blueprint.classes)
    return blueprint, net, [*notes, *([line] if line else [])]


def shell(taught: Taught, kind: Kind, examples: Examples, where: str) -> tuple[Blueprint, nn.Module, list[str]]:
    """The same without its weights or answers, unless it is a program, which is whole."""
    given, file_at = taught.weights, _place(taught, where)
    assert given is not None
    path = checked(given.path, given.sha256, file_at)
    file, match = find(taught.network, f"{where}.network: ")
    with about(file_at):
        own = _configured(file, path, match)
    examples = _named(taught, own, examples, where)
    with about(file_at):
        blueprint = kind.blueprint(taught.network, examples, own.model)
        if IMAGES in kind.has:
            blueprint = _seeing(taught, given, blueprint, own)
    blueprint, notes = _answering(taught, blueprint, own, f"{where}.classes")
    notes = [own.line, *notes] if own.line else notes
    with about(f"{where}.network"):
        if taught.picked and blueprint.interface and blueprint.interface.outputs is None and taught.network not in MAKES:
            blueprint = _of_all_outputs(blueprint, given, path, file_at)
        net = blueprint.build()
    if isinstance(program := bare(net), Program):
        with about(file_at):
            program.read(path)
            blueprint, said = _of_program(taught, blueprint, program)
        net, notes = _behind(program, blueprint), notes + said
    return blueprint, net, notes


def _configured(file: Any, path: Path, match: re.Match[str]) -> Configuration:
    """What lies beside the weights; raises UserError where it is not as its library writes it."""
    try:
        found: Configuration = file.configuration(path, match) if hasattr(file, "configuration") else NOTHING
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"what lies beside {path} is not as its library writes it ({error}); copy the folder again") from None
    return found


def check_named(taught: Taught, where: str) -> None:
    """Raise UserError where neither labels nor the task name the classes, and nothing beside the weights does."""
    assert taught.weights is not None
    file, match = find(taught.network, f"{where}.network: ")
    path = checked(taught.weights.path, taught.weights.sha256, _place(taught, where))
    with about(_place(taught, where)):
        own = _configured(file, path, match)
    _named(taught, own, pack(torch.empty(0)), where)


def _named(taught: Taught, own: Configuration, examples: Examples, where: str) -> Examples:
    """The examples with the teacher's own names of its classes, where neither labels nor the task name any."""
    if examples.classes:
        return examples
    key = f"{where.removesuffix('.teacher')}.classes"
    if not own.names:
        raise UserError(
            f"{key}: nothing says how the teacher's classes are called; list them in the order of its logits, name a text file "
            "with one a line, or write how many there are"
        )
    picked = [_number(one, own.names, f"{where}.classes") for one in taught.picked] or range(len(own.names))
    return replace(examples, classes=distinct([own.names[one] for one in picked]))


def _place(taught: Taught, where: str) -> str:
    """The section that names the file, as its user wrote it."""
    return f"{where}.{taught.network if taught.network in MAKES else 'weights'}"


def _behind(net: nn.Module, blueprint: Blueprint) -> nn.Module:
    """The network, which is there already, as a blueprint with an interface says."""
    assert blueprint.interface is not None
    return Adapter(inside(net), blueprint.interface)


def _seeing(taught: Taught, given: Weights, blueprint: Blueprint, own: Configuration) -> Blueprint:
    """A teacher of images: with our normaliser where that is all it wants, else behind an interface."""
    channels = blueprint.shape[0]
    mean, std = given.mean or own.mean, given.std or own.std
    program = taught.network in MAKES
    if not (len(mean) == len(std) == channels or (program and not mean and not std)):
        raise UserError(f"mean and std need {channels} values, one a channel")
    size = _pair(taught.resize) or (own.size if own.size != blueprint.shape[1:] else None)
    interface = Interface(
        size, taught.order, taught.range, mean or None, std or None, taught.output, taught.gives == PROBABILITIES
    )
    if mean and taught.range == 1:  # else a student normalises by what the images are
        turned = slice(None, None, -1 if taught.order == "bgr" else 1)
        blueprint = replace(blueprint, mean=mean[turned], std=std[turned])
    return replace(blueprint, interface=interface) if taught.adapted or taught.foreign or size else blueprint


def _pair(resize: Any) -> tuple[int, int] | None:
    if resize is None:
        return None
    return (resize, resize) if isinstance(resize, int) else (resize[0], resize[-1])


def _answering(taught: Taught, blueprint: Blueprint, own: Configuration, where: str) -> tuple[Blueprint, list[str]]:
    """Which of its logits are the task's classes, in their order: those that are asked for, or those of their names."""
    notes, keep, classes = list[str](), list[int](), [_plain(name) for name in blueprint.classes]
    if taught.picked:
        keep = [_number(one, own.names, where) for one in taught.picked]
        if twice := next((one for one in keep if keep.count(one) > 1), None):
            raise UserError(f"{where}: it names logit {twice} twice; each class has one of its own")
        if len(keep) != len(classes):
            raise UserError(
                f"{where}: it names {len(keep)} logits, and the task has {len(classes)} classes: "
                f"{', '.join(blueprint.classes[:6])}, ...; name one for each, in that order"
            )
    elif (known := [_plain(name) for name in own.names]) != classes and set(classes) <= set(known):
        keep = [known.index(name) for name in classes]
        notes.append(
            f"its logits are taken by the names of the classes: {', '.join(map(str, keep[:8]))}{', ...' * (len(keep) > 8)}"
        )
    if not keep:
        return blueprint, notes
    interface = replace(blueprint.form, keep=tuple(keep), outputs=own.outputs or len(own.names) or None)
    return replace(blueprint, interface=interface), notes


def _number(one: Any, names: Sequence[str], where: str) -> int:
    if isinstance(one, int) and not isinstance(one, bool) and one >= 0:
        return one
    if one not in names:
        raise UserError(f"{where}: '{one}' is no number of a logit (from 0), and no name in the teacher's configuration")
    return list(names).index(one)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _of_all_outputs(blueprint: Blueprint, given: Weights, path: Path, where: str) -> Blueprint:
    """Of a network of which some logits are kept: how many it has, as its file says."""
    tensors, _ = contents(path, given.key, where)
    expected = bare(blueprint.build()).state_dict()
    found = fitted(expected, tensors, given.without, where)
    counts = [
        len(found.state[name])
        for name, tensor in expected.items()
        if name in found.state and found.state[name].dim() and found.state[name].shape != tensor.shape
    ]
    assert blueprint.interface is not None
    return replace(blueprint, interface=replace(blueprint.interface, outputs=counts[-1] if counts else None))


def _of_program(taught: Taught, blueprint: Blueprint, program: Program) -> tuple[Blueprint, list[str]]:
    """A program's own size is that at which it sees images, unless the task says another."""
    wants, notes, interface = program.wants, list[str](), blueprint.interface
    assert interface is not None
    if len(wants) != 4:
        raise UserError("it takes no images (B, C, H, W); export it with an example of that form")
    batch, channels, height, width = wants
    if channels is not None and channels != blueprint.shape[0]:
        raise UserError(
            f"it takes {channels} channels, and the task's images have {blueprint.shape[0]}; change `image.channels`, or "
            "export it with channels first (B, C, H, W)"
        )
    if height and width and interface.resize is None and (height, width) != blueprint.shape[1:]:
        interface = replace(interface, resize=(height, width))
        notes.append(f"images are resized to {height} x {width}, at which it was exported")
    if height and width and interface.resize not in (None, (height, width)):
        raise UserError(f"it was exported for images of {height} x {width}; mend `resize`, or export it with dynamic sides")
    if batch is not None:
        notes.append(f"it takes batches of just {batch}: they are filled up to that")
    if interface.mean is None:
        notes.append(f"it gets images in [0, {taught.range}]: no mean and std are given")
    return replace(blueprint, interface=interface), notes


@torch.no_grad()
def as_logits(
    taught: Taught, blueprint: Blueprint, net: nn.Module, answer: Tensor, axes: int = 2
) -> tuple[Blueprint, nn.Module, list[str]]:
    """The teacher, behind the logarithm where its `answer` (n, K, ...) to images is probabilities and nothing says what it is.

    Raises UserError for an answer of another form than the task's classes want, of `axes` axes, for one that is not finite, and
    for probabilities that are none.
    """
    if answer.shape[1] != len(blueprint.classes):
        raise UserError(
            f"the teacher gives {answer.shape[1]} logits, and the task has {len(blueprint.classes)} classes: "
            f"{', '.join(blueprint.classes[:6])}; say by `teacher.classes` which of its logits these are, or name all its classes"
        )
    if answer.dim() != axes:
        raise UserError(
            f"the teacher answers with {tuple(answer.shape[1:])} numbers, and this kind of task wants {axes - 1} axes"
        )
    if not answer.isfinite().all():
        raise UserError("the teacher gives numbers that are not finite; check its mean, std and range")
    sums, some = answer.double().sum(1), bool(blueprint.interface and blueprint.interface.keep)
    if taught.gives == PROBABILITIES:  # their logarithms, by now
        sums = answer.double().exp().sum(1)
        if (sums > 1 + ROUNDED).any() or (not some and (sums < 1 - ROUNDED).any()):
            raise UserError("`gives: probabilities`, and its answers do not sum to 1; leave out the line, or mend the teacher")
    whole = (sums <= 1 + NEAR_ONE).all() if some else (sums - 1).abs().max() <= NEAR_ONE
    if taught.gives or answer.min() < 0:
        return blueprint, net, []
    if not whole:
        odd = "look here: its answers lie between 0 and 1 and do not sum to 1; if it ends in a sigmoid, give what comes before"
        return blueprint, net, [odd] if answer.max() <= 1 else []
    blueprint = replace(blueprint, interface=replace(blueprint.form, probabilities=True))
    return blueprint, _behind(net, blueprint), ["its answers are probabilities (rows sum to 1); their logarithms are its logits"]


@torch.no_grad()
def same_answer(net: nn.Module, inputs: Tensor) -> None:
    """Raise UserError where an answer depends on the call, or on what stands beside an input: the mode of training."""
    first, again = net(inputs), net(inputs.flip(0)).flip(0)
    half = torch.cat([net(part) for part in inputs.chunk(2)])
    spread = first.abs().max() + 1e-6
    if max((first - again).abs().max(), (first - half).abs().max()) > 0.01 * spread:
        raise UserError(
            "the teacher answers otherwise when it is asked again, or beside other images: it is in the mode of training; call "
            "net.eval() before you export it"
        )
