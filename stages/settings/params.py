"""params.yaml and the catalogue in tasks/, checked before anything runs."""

import pkgutil
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

import stages
from stages.settings.catalogue import FOLDER, VARIANTS, Catalogue, Layer, patched, place
from stages.settings.task import STUDENT_DOMAIN, Name, Precision, Task
from stages.settings.yaml import Loader
from stages.support import errors
from stages.support.errors import UserError
from stages.support.plugins import nearest
from stages.support.sections import Positive, Rate, Section, Seed, check

COST = "cost"  # the part of summary.json that says what runs spent
TEACHER = "teacher"  # the label of the teacher's row
PARAMS = Path("params.yaml")
STAGES = ("prepare", "train_teacher", "curate", "evaluate", "report")  # of a task, beside one `distill` a row and seed
IMPRESS = ("train_templates", "impress")  # of a task that `impress.tasks` names
EXPORT = "export"  # of a task that `export.tasks` names
FIRST = ("supervised", "kd_in_domain", "kd_noise", "kd_ood", "kd_ood_strong", "mosaickd")  # in tables; the others by name
# What methods share in a task stands under its `distill`, and goes into the sections of all methods that have such a field.
SHARED = {"generator_width": "generator_width", "synthetic_batch": "batch"}


class Run(Section):
    """What `dvc repro` runs, and how. `methods` names rows: methods and their variants alike."""

    tasks: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    scale: Literal["full", "smoke"] = "full"
    precision: Precision = "auto"
    compile: Literal["teacher"] | bool = False
    threads: Positive | None = None
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
        """The seeds of the networks that are trained beside the teacher, sorted."""
        return sorted(int(name.removeprefix("seed_")) for name in self.templates if name.startswith("seed_"))


class Export(Section):
    """Students of some `tasks` of the run as files that ship, with a model card each. None by default.

    `methods` names rows, and `seeds` theirs; all of the run where nothing is named.
    """

    tasks: list[str] = Field([])
    methods: list[str] = Field([])
    seeds: list[Seed] = Field([])


class _File(Section):
    """The sections of params.yaml. `task` and `method` hold what this run changes; null means "not said"."""

    run: Run
    task: dict[str, Any] = Field({})
    method: dict[str, dict[str, Any] | None] = Field({})
    impress: Impress = Impress()
    export: Export = Export()


@dataclass(frozen=True)
class Params:
    """What is asked for (`run`, `impress`, `export`), the `catalogue`, and the `changes` of this run: all of params.yaml.

    Changes are for the tasks of the run alone. Methods check their sections themselves.
    """

    run: Run
    impress: Impress
    export: Export
    catalogue: Catalogue
    changes: Layer
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)  # rows of earlier runs that the catalogue no longer has
    _checked: dict[str, Task] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Every row there is: methods, whose section is empty, and variants, whose section names the method under `of`."""
        variants = {name: layer.content for name, layer in self.catalogue.variants.items()}
        return {**{name: {} for name in method_names()}, **self.extra, **variants}

    def in_order(self) -> list[str]:
        """Every row in the order of tables: bounds, blind distillation, MosaicKD, other methods; each before its variants."""
        methods = [*FIRST, *sorted(set(method_names()) - set(FIRST))]
        return sorted(self.rows, key=lambda row: (methods.index(self.method_of(row)), row != self.method_of(row)))

    def task(self, name: str) -> Task:
        """The task called `name`, at the scale of `run.scale`; raises UserError for an unknown name and a wrong value."""
        if name not in self._checked:
            content = self._content(name)
            _name(name, self.catalogue.tasks[name])
            for row in content.pop("methods", None) or {}:
                _known(self.rows, row, "method", f"task.{name}.methods.{row}: ")
            if isinstance(content.get("distill"), dict):
                content["distill"] = {key: value for key, value in content["distill"].items() if key not in SHARED}
            self._checked[name] = check(Task, content, f"task.{name}")
        task = self._checked[name]
        return task.smoke() if self.run.scale == "smoke" else task

    def method_of(self, row: str) -> str:
        """The method that a row of the table runs: itself, or the one that it is a variant `of`."""
        return str(_known(self.rows, row, "method").get("of", row))

    def values(self, row: str, task: str, fields: Collection[str]) -> dict[str, Any]:
        """The parameters of a row for `task`, unchecked, without the defaults in code; `fields` are those of its method.

        Later wins: what the task shares, what it says of the method, params.yaml of the method, the variant's own, what the task
        says of the variant, params.yaml of the variant.
        """
        merged: dict[str, Any] = {}
        for layer in self._of_row(row, task, fields):
            if not isinstance(layer.content, dict):
                raise UserError(f"{layer.file}: {layer.key}: it is a section with a line for each of its keys")
            merged |= layer.content
        return merged

    def place(self, what: str) -> str:
        """`FILE: KEY`, where the value stands that the code calls `what`: task.NAME.KEY, row.TASK.ROW.KEY, run.KEY, ...

        What the code calls method.ROW.KEY, of no task, can be set in params.yaml.
        """
        first, _, rest = what.partition(".")
        if first not in ("task", "row"):
            return f"{PARAMS}: {what}"
        name, rest = _first(rest, self.catalogue.tasks)
        layers, path = self._layers(name), rest.split(".") if rest else []
        if first == "task":
            said = layers[-1].has(path[:1]) if rest else False  # else the task's own file is the place
            return place(layers if said else self.catalogue.layers(name), path)
        row, rest = _first(rest, self.rows)
        path = rest.split(".") if rest else []
        return place(self._of_row(row, name, [path[0]] if path else []) or [layers[-1].of("methods", row)], path)

    def _layers(self, name: str) -> list[Layer]:
        layers = self.catalogue.layers(name)
        return [*layers, self.changes.of("task")] if name in self.run.tasks else layers

    def _content(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for layer in self._layers(name):
            content = patched(content, layer.content)
        return content

    def _of_row(self, row: str, task: str, fields: Collection[str]) -> list[Layer]:
        """The layers of a row's section in a task, those that say something."""
        content, layers = self._content(task), self._layers(task)
        method, distill = self.method_of(row), content.get("distill")
        shared = [
            Layer({inner: distill[key]}, *_file_and_key(place(layers, ["distill", key]).rpartition(".")[0]), {inner: key})
            for key, inner in SHARED.items()
            if inner in fields and isinstance(distill, dict) and key in distill
        ]
        found = list(shared)
        for name in dict.fromkeys((method, row)):
            if name != method and name in self.rows:
                own = self.catalogue.variants.get(name) or Layer(self.rows[name], FOLDER / VARIANTS, name)
                found.append(Layer({key: value for key, value in own.content.items() if key != "of"}, own.file, own.key))
            of_task = content.get("methods", {})
            if isinstance(of_task, dict) and name in of_task:
                found.append(Layer(of_task[name], *_file_and_key(place(layers, ["methods", name]))))
            if task in self.run.tasks:
                found.append(self.changes.of("method", name))
        return [layer for layer in found if layer.content != {}]


def load(path: Path = PARAMS) -> Params:
    """Read the file, and the catalogue beside it; check all that is no task's and no method's own.

    Raises UserError that names the file, the key and the fix.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run from the top folder of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    checked = check(_File, content, file=str(PARAMS))
    changes = Layer(_said({"task": checked.task, "method": checked.method}), PARAMS, "")
    params = Params(checked.run, checked.impress, checked.export, Catalogue(path.parent / FOLDER), changes)
    for row, section in params.rows.items():
        where = f"{FOLDER / VARIANTS}: {row}"
        if row in (TEACHER, *STAGES, *IMPRESS, EXPORT):
            raise UserError(f"{where}: a stage has this name already; take another")
        if row in params.catalogue.variants:
            _name(row, params.catalogue.variants[row])
            _variant(params.rows, row, section, where)
    for name in params.run.tasks:
        params.catalogue.layers(name, f"{PARAMS}: run.tasks: ")
        if name == COST or name.endswith(f"-{STUDENT_DOMAIN}"):
            raise UserError(
                f"{params.catalogue.tasks[name].file}: {name}: the tables have this name for something else; rename it"
            )
    for name in params.run.methods:
        _known(params.rows, name, "method", f"{PARAMS}: run.methods: ")
    for name in params.changes.of("method").content:
        _known(params.rows, name, "method", f"{PARAMS}: method: ")
    for key, names in (("impress", params.impress.tasks), (EXPORT, params.export.tasks)):
        for name in names:
            params.catalogue.layers(name, f"{PARAMS}: {key}.tasks: ")
            if name not in params.run.tasks:
                raise UserError(f"{PARAMS}: {key}.tasks: '{name}' is not among run.tasks; name it there too, or take it out here")
    for key in ("methods", "seeds"):
        for one in getattr(params.export, key):
            if one not in getattr(params.run, key):
                raise UserError(f"{PARAMS}: export.{key}: '{one}' is not among run.{key}; name it there too, or take it out here")
    return params


def method_names() -> list[str]:
    """The methods there are: a file each in stages/methods; folders, and what begins with "_", only help them."""
    folders = [str(Path(path) / "methods") for path in stages.__path__]
    return [module.name for module in pkgutil.iter_modules(folders) if not (module.ispkg or module.name.startswith("_"))]


def _variant(rows: dict[str, dict[str, Any]], row: str, section: Any, where: str) -> None:
    if not isinstance(section, dict) or "of" not in section:
        raise UserError(
            f"{where}: a variant names its method under `of`, and what it changes: `{row}: {{of: METHOD, KEY: VALUE}}`"
        )
    of = _known(rows, str(section["of"]), "method", f"{where}.of: ")
    if "of" in of:
        raise UserError(f"{where}.of: {section['of']} is a variant itself; name the method that it is of")


def _said(content: Any) -> Any:
    """All that is not null, and no section without anything in it."""
    if not isinstance(content, dict):
        return content
    said = {key: _said(value) for key, value in content.items() if value is not None}
    return {key: value for key, value in said.items() if value != {}}


def _name(name: str, layer: Layer) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{layer.file}: {name}: {message}") from None


def _known(names: dict[str, Any], name: str, what: str, where: str = "") -> Any:
    if name not in names:
        raise UserError(f"{where}unknown {what} '{name}'; {nearest(name, names)}")
    return names[name]


def _first(path: str, names: Collection[str]) -> tuple[str, str]:
    """The name among `names` with which a dotted path begins (names may have dots), and the rest."""
    name = max((name for name in names if f"{path}.".startswith(f"{name}.")), key=len, default=path.partition(".")[0])
    return name, path[len(name) + 1 :]


def _file_and_key(where: str) -> tuple[Path, str]:
    file, _, key = where.partition(": ")
    return Path(file), key


def _place(what: str) -> str | None:
    """Where a value stands, for a message about it; None where that cannot be said."""
    try:
        return load().place(what)
    except UserError:
        return None


errors.places.append(_place)
