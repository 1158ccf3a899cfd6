"""Tensors that another program named, as tensors of a network of ours: wrappings taken off, what is no weight left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from stages.networks.files import contents
from stages.networks.weights import bare
from stages.settings.task import Start
from stages.support import files
from stages.support.errors import UserError
from stages.support.plugins import nearest

WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # modules that torch puts in between
OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of layer normalisation in TensorFlow, and in early BERTs
COUNTERS = ("num_batches_tracked", "position_ids")  # buffers that say nothing of what was learned
State = dict[str, Tensor]


@dataclass
class Fitted:
    """Tensors under a network's names, and what was done to them; or what does not fit."""

    state: State
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


def import_weights(net: nn.Module, given: Start, where: str, classes: Sequence[str] = ()) -> str:
    """Fill `net`, or its module `given.into`, from the user's file; returns what was stripped, cast or left out, in one line.

    Tensors whose names begin with a word of `given.without` are left out on both sides. `where` is the section that says all
    this. Raises UserError for a missing file, another hash, an unreadable file, or tensors that do not fit the network. `classes`
    are those that the network was built for, where they are to be the file's.
    """
    path = checked(given.path, given.sha256, where)
    known = dict(bare(net).named_modules())
    if given.into not in known:
        raise UserError(f"{where}.into: the network has no module '{given.into}'; {nearest(given.into, known)}")
    target, (tensors, notes) = known[given.into], contents(path, given.key, where)
    found = fitted(target.state_dict(), tensors, given.without, where)
    _see_that_it_fits(path, target.state_dict(), found, where, classes)
    expected = target.state_dict()
    if cast := sorted({str(t.dtype)[6:] for name, t in found.state.items() if t.dtype != expected[name].dtype}):
        found.notes.append(f"{', '.join(cast)} made {str(next(iter(expected.values())).dtype)[6:]}")
    target.load_state_dict(found.state, strict=False)
    notes = found.notes + notes
    return f"{path}: {'; '.join(notes)}" if notes else ""


def tell(line: str) -> None:
    """Print a line, if there is one."""
    if line:
        print(line, flush=True)


def checked(path: str, sha256: str | None, where: str) -> Path:
    """The user's file; raises UserError where it is missing, or has another hash than the one that is given."""
    if not (found := files.weights_in(Path(path))).is_file():
        raise UserError(f"the weights {path} are missing; put the file there, or mend `{where}.path`{files.elsewhere()}")
    if sha256 and (actual := files.sha256(found)) != sha256:
        raise UserError(f"{path} has sha256 {actual}, and `{where}.sha256` says {sha256}; take the right file, or mend the line")
    return found


def fitted(expected: State, given: State, without: Sequence[str] = (), where: str = "weights") -> Fitted:
    """The tensors of `given` under the names of `expected`.

    A beginning that the network's names share in the file is taken off, and what lies beside it is left out; so are counters,
    single numbers and auxiliary heads that the network has not. Where all names are another program's, tensors with equal forms
    in equal order are taken by their order. Raises UserError where a word of `without` begins no name, or two networks fit.
    """
    given = {".".join(part for part in name.split(".") if part not in WRAPPERS): value for name, value in given.items()}
    prefix = _prefix(expected, given, where)
    mine = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
    if idle := [word for word in without if not any(name.startswith(word) for name in (*expected, *mine, *given))]:
        raise UserError(f"{where}.without: the network has no tensor whose name begins with '{idle[0]}'")
    left = tuple(without)
    beside = [name for name in given if not name.startswith((prefix, *left))]
    mine = {name: value for name, value in mine.items() if not name.startswith(left)}
    expected = {name: value for name, value in expected.items() if not name.startswith(left)}
    notes = [f"names without '{prefix}'"] if prefix else []
    notes += [f"{len(beside)} tensors beside the network are left out ({beside[0]}, ...)"] if beside else []
    mine, renamed = _modern(expected, mine)
    notes += ["gamma and beta are weight and bias"] if renamed else []
    extra = [name for name in mine if name not in expected]
    idle = [name for name in extra if name.endswith(COUNTERS) or mine[name].numel() == 1 or _auxiliary(name)]
    loud = [name for name in idle if not name.endswith(COUNTERS)]
    notes += [f"{len(loud)} tensors that the network has not are left out ({loud[0]}, ...)"] if loud else []
    state = {name: value for name, value in mine.items() if name not in idle}
    missing = [name for name in expected if name not in state and not name.endswith(COUNTERS)]
    unexpected = [name for name in state if name not in expected]
    if missing and (ordered := _by_order(expected, state)):
        (theirs, ours), *_ = [(a, b) for a, b in zip(state, ordered, strict=True) if a != b]
        return Fitted(
            ordered, [*notes, f"names are another program's: all are taken by order and form ({theirs} is {ours}, ...)"]
        )
    return Fitted(state, notes, missing, unexpected)


def _prefix(expected: State, given: State, where: str) -> str:
    """The beginning of names in `given` under which most of the `expected` ones lie, the shortest of several.

    Raises UserError where another one holds all of them too.
    """
    fits = Counter[str]()
    for name in given:
        parts = name.split(".")
        for place in range(len(parts)):
            if ".".join(parts[place:]) in expected:
                fits["".join(f"{part}." for part in parts[:place])] += 1
    best = max(fits, key=lambda prefix: (fits[prefix], -len(prefix)), default="")
    if 2 * fits[best] < len(expected):  # names that are alike by chance
        return ""
    also = [p for p, count in fits.items() if p != best and count == fits[best] == len(expected) and not p.startswith(best)]
    if also:
        raise UserError(
            f"{where}: the file holds two such networks, '{best.rstrip('.')}' and '{also[0].rstrip('.')}'; "
            f"`key: {best.rstrip('.') or also[0].rstrip('.')}` takes one of them"
        )
    return best


def _modern(expected: State, mine: State) -> tuple[State, bool]:
    """The tensors with today's names for those of layer normalisation."""
    state, renamed = State(), False
    for name, value in mine.items():
        stem, _, last = name.rpartition(".")
        new = f"{stem}.{OLD_NAMES.get(last, last)}"
        use = name not in expected and last in OLD_NAMES and new in expected
        state[new if use else name], renamed = value, renamed or use
    return state, renamed


def _auxiliary(name: str) -> bool:
    return any(part.lower().startswith("aux") for part in name.split("."))


def _by_order(expected: State, state: State) -> State:
    """The tensors under the network's names, where both have equal forms in equal order; else nothing."""
    ours = [name for name in expected if not name.endswith(COUNTERS)]
    theirs = [name for name in state if not name.endswith(COUNTERS)]
    if [expected[name].shape for name in ours] != [state[name].shape for name in theirs]:
        return {}
    return {mine: state[name] for mine, name in zip(ours, theirs, strict=True)}


def _see_that_it_fits(path: Path, expected: State, found: Fitted, where: str, classes: Sequence[str]) -> None:
    """Raise UserError that shows what is missing, unexpected, or of another form."""
    names, state = {*found.missing, *found.unexpected}, found.state
    shapes = {
        name: (tuple(state[name].shape), tuple(expected[name].shape))
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    }
    if shapes and not names and all(mine == (len(classes), *given[1:]) for given, mine in shapes.values()):
        raise UserError(
            f"{path} answers for {next(iter(shapes.values()))[0][0]} classes, and the task has {len(classes)}: "
            f"{', '.join(classes[:12])}; give images of each of the teacher's classes, or say by `classes` which logits these are"
        )
    wrong = [f"no '{name}'" for name in found.missing[:2]] + [f"unexpected '{name}'" for name in found.unexpected[:1]]
    wrong += [f"'{name}' is {given}, not {mine}" for name, (given, mine) in list(shapes.items())[: 3 - len(wrong)]]
    if wrong:
        more = f" and {rest} more" if (rest := len(found.missing) + len(found.unexpected) + len(shapes) - len(wrong)) > 0 else ""
        hint = f"; or leave tensors out by `{where}.without`" if found.unexpected else ""
        raise UserError(
            f"{path} does not fit the network beside `{where}`: {', '.join(wrong)}{more}; name the network it is of{hint}"
        )
