"""params.yaml, checked before anything runs."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from stages.settings.task import STUDENT_DOMAIN, Name, Precision, Task
from stages.support.errors import UserError
from stages.support.parts import nearest
from stages.support.sections import Positive, Rate, Section, Seed, check

COST = "cost"  # the part of summary.json that says what runs spent
TEACHER = "teacher"  # the label of the teacher's row
PARAMS = Path("params.yaml")
STAGES = ("prepare", "train_teacher", "curate", "evaluate", "report")  # of a task, beside one `distill` a row and seed
IMPRESS = ("train_templates", "impress")  # of a task that `impress.tasks` names


class Run(Section):
    """What `dvc repro` runs, and how. `methods` names rows: methods and their variants alike."""

    tasks: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    scale: Literal["full", "smoke"] = "full"
    precision: Precision = "auto"
    compile: bool = False
    checkpoint_steps: Positive = 5000
    checkpoint_minutes: Rate = 2.0

    @model_validator(mode="after")
    def _no_repeats(self) -> "Run":
        for key in ("tasks", "methods", "seeds"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"`{key}` names something twice")
        return self

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(row, seed) of everything that makes a task's table: the teacher, then the students."""
        return [(TEACHER, 0), *((row, seed) for row in self.methods for seed in self.seeds)]


class Impress(Section):
    """What the teachers of some `tasks` of the run remember: Impression Space. None by default.

    `templates` are the networks by which images are described: the teacher always, others of its kind that are trained with other
    seeds, one at least, and `random`: as many of random weights.
    """

    tasks: list[str] = Field([])
    templates: list[Annotated[str, Field(pattern=r"^(teacher|random|seed_[1-9]\d*)$")]] = Field(
        ["teacher", "seed_1", "seed_2", "random"]
    )

    @model_validator(mode="after")
    def _two_judges(self) -> "Impress":
        if len(set(self.templates)) < len(self.templates):
            raise ValueError("`templates` names something twice")
        if TEACHER not in self.templates or not self.seeds:
            raise ValueError("`templates` names the teacher and another seed at least (seed_1): each is judged by another")
        return self

    @property
    def seeds(self) -> list[int]:
        """Of the networks that are trained beside the teacher, sorted."""
        return sorted(int(name.removeprefix("seed_")) for name in self.templates if name.startswith("seed_"))


class _File(Section):
    """The sections of params.yaml."""

    run: Run
    task: dict[Name, Task]
    method: dict[Name, dict[str, Any]]
    impress: Impress = Impress()


@dataclass(frozen=True)
class Params:
    """The checked file. `rows` holds the sections under `method:` as they stand; the methods themselves check them."""

    run: Run
    tasks: dict[str, Task]
    rows: dict[str, dict[str, Any]]
    impress: Impress

    @cached_property
    def families(self) -> frozenset[str]:
        """What a value may differ by: the names of tasks, and how these begin up to a dash."""
        return frozenset(name for task in self.tasks for name in _families(task))

    def task(self, name: str) -> Task:
        """The task called `name`, at the scale of `run.scale`; raises UserError for an unknown name."""
        task: Task = _known(self.tasks, name, "task")
        return task.smoke() if self.run.scale == "smoke" else task

    def method_of(self, row: str) -> str:
        """The method that a row of the table runs: itself, or the one that it is a variant `of`."""
        _known(self.rows, row, "method")
        return str(self.rows[row].get("of", row))

    def values(self, row: str, task: str) -> dict[str, Any]:
        """The parameters of a row for `task`, unchecked: the method's, then what the variant changes.

        A value may be a map {default: ..., TASK: ...}; the entry of the task counts, or of the longest name that its name begins
        with ("digits" for digits-letters), else the default. A task with `values` is looked up by that name instead of its own.
        """
        merged: dict[str, Any] = {}
        task = self.tasks[task].values or task
        for name in dict.fromkeys((self.method_of(row), row)):
            section = {key: value for key, value in self.rows[name].items() if key != "of"}
            merged |= {key: self._for_task(f"method.{name}.{key}", value, task) for key, value in section.items()}
        return merged

    def family(self, name: str, where: str) -> None:
        """Raises UserError that begins with `where` if no task is called `name`, or `name` and more after a dash."""
        if name not in self.families:
            _known(self.tasks, name, "task", where)

    def _for_task(self, where: str, value: Any, task: str) -> Any:
        if not (isinstance(value, dict) and value):
            return value
        if "default" not in value:
            if all(str(name) in self.families for name in value):
                raise UserError(f"params.yaml: {where}: a map by task has a `default` too, for all others")
            return value
        for name in value.keys() - {"default"}:
            self.family(str(name), f"params.yaml: {where}: ")
        return value[next((name for name in _families(task) if name in value), "default")]


def load(path: Path = PARAMS) -> Params:
    """Read the file and check all that is no method's own. Raises UserError that names the key and the fix."""
    try:
        content = yaml.load(path.read_text(), Loader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run from the top folder of the repository") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    checked = check(_File, written_out(content))
    params = Params(checked.run, checked.task, checked.method, checked.impress)
    for row, section in params.rows.items():
        if row in (TEACHER, *STAGES, *IMPRESS):
            raise UserError(f"params.yaml: method.{row}: a stage has this name already; take another")
        if "of" in section:
            of = _known(params.rows, str(section["of"]), "method", f"params.yaml: method.{row}.of: ")
            if "of" in of:
                raise UserError(
                    f"params.yaml: method.{row}.of: {section['of']} is a variant itself; name the method that it is of"
                )
    for task in params.tasks:
        if task == COST or task.endswith(f"-{STUDENT_DOMAIN}"):
            raise UserError(f"params.yaml: task.{task}: the tables have this name for something else; take another")
        if values := params.tasks[task].values:
            params.family(values, f"params.yaml: task.{task}.values: ")
    for axis, known in (("task", params.tasks), ("method", params.rows)):
        for name in getattr(params.run, f"{axis}s"):
            _known(known, name, axis, f"params.yaml: run.{axis}s: ")
    for name in params.impress.tasks:
        _known(params.tasks, name, "task", "params.yaml: impress.tasks: ")
        if name not in params.run.tasks:
            raise UserError(f"params.yaml: impress.tasks: '{name}' is not among run.tasks; name it there too")
    return params


def written_out(content: Any) -> Any:
    """params.yaml with everything in it that it shares: not by YAML's anchors, which `dvc exp run -S` does not keep apart.

    A section with the key `of` is that of `parts` which it names, with what else it says instead; a task, that other task; and a
    method that is `like` another has its parameters. Of methods, `of` stays: it says of what a row is a variant. Raises UserError
    for a name that is none, and for a section that is of itself.
    """
    if not isinstance(content, dict):
        return content  # `check` says what is wrong, here and below
    content, parts = {key: value for key, value in content.items() if key != "parts"}, content.get("parts") or {}
    sections = [key for key in ("task", "method") if isinstance(content.get(key), dict)]
    if len(sections) < 2:
        return {**content, **{key: {} for key in sections}}
    if not isinstance(parts, dict):
        raise UserError("params.yaml: parts: it is a map of sections by name")
    tasks, methods = content["task"], content["method"]

    def inner(value: Any, where: str, above: frozenset[str] = frozenset()) -> Any:
        if isinstance(value, list):
            return [inner(one, f"{where}.{place}", above) for place, one in enumerate(value)]
        if not isinstance(value, dict):
            return value
        whole, within = _with(value, "of", parts, "parts", where, above)
        return {key: inner(one, f"{where}.{key}", above if key in value else within) for key, one in whole.items()}

    def section(name: str, key: str, sections: dict[str, Any], what: str) -> Any:
        if not isinstance(sections[name], dict):
            return sections[name]
        whole, _ = _with(sections[name], key, sections, what, where := f"{what}.{name}", frozenset([name]))
        return {key: inner(value, f"{where}.{key}") for key, value in whole.items()}

    return {
        **content,
        "task": {name: section(name, "of", tasks, "task") for name in tasks},
        "method": {name: section(name, "like", methods, "method") for name in methods},
    }


def _with(
    section: dict[str, Any], key: str, sections: dict[str, Any], what: str, where: str, above: frozenset[str]
) -> tuple[dict[str, Any], frozenset[str]]:
    """`section` and what it takes from the one of `sections` that it names under `key`, which may name another; and all names.

    `above` are the names of those in which it stands.
    """
    while key in section:
        name = str(section[key])
        if name in above:
            raise UserError(f"params.yaml: {where}.{key}: '{name}' is of itself, in the end; say there what it is")
        above |= {name}
        other = _known({str(known): one for known, one in sections.items()}, name, what, f"params.yaml: {where}.{key}: ")
        if not isinstance(other, dict):
            raise UserError(f"params.yaml: {where}.{key}: '{name}' is no section, with a line for each of its keys")
        section = {**other, **{inner: value for inner, value in section.items() if inner != key}}
    return section, above


def _known(names: dict[str, Any], name: str, what: str, where: str = "") -> Any:
    if name not in names:
        raise UserError(f"{where}unknown {what} '{name}'; {nearest(name, names)} There is no section `{what}.{name}`.")
    return names[name]


def _families(task: str) -> list[str]:
    """A task's name and how it begins up to each dash, the longest first."""
    words = task.split("-")
    return ["-".join(words[:n]) for n in range(len(words), 0, -1)]


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML reads `1e-3` as a string; DVC and YAML 1.2 read a number, and so do we."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
