"""params.yaml, checked before anything runs."""

import difflib
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from stages.datasets import Source
from stages.errors import UserError
from stages.sections import Section

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9][\w.-]*", value):
        raise ValueError("a name is made of letters, digits, '-', '_' and '.'")
    return value


Name = Annotated[str, AfterValidator(_name)]


class Augment(Section):
    """What training does to each image: zero-pad by `crop` pixels and crop back at a random place, flip left-right at random."""

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False

    @property
    def changes(self) -> bool:
        """Whether an image differs from epoch to epoch; what the teacher said of the bare one then no longer counts."""
        return self.crop > 0 or self.flip


class Shape(Section):
    """Pixels a side (a multiple of 4) and channels (1 grey, 3 RGB) of every image of a task."""

    size: Annotated[int, Field(ge=8, multiple_of=4)]
    channels: Literal[1, 3]


class Train(Section):
    """How a teacher is trained: SGD with Nesterov momentum 0.9, learning rate `lr` falling to 0 along a cosine."""

    epochs: Positive
    batch: Annotated[int, Field(ge=2)]
    lr: Rate
    weight_decay: Weight
    augment: Augment = Augment()


class Weights(Section):
    """A trained teacher to import: a safetensors or state_dict file, its hash, and the statistics it normalises with."""

    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    mean: list[float]
    std: list[Rate]


class Teacher(Section):
    """The teacher's network, and either how to train it or where its weights are."""

    network: str
    train: Train | None = None
    weights: Weights | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "Teacher":
        if (self.train is None) == (self.weights is None):
            raise ValueError("give either `train` (we train the teacher) or `weights` (you bring it), not both")
        return self


class Odsd(Section):
    """ODSD's sampling: weights of its scores, prototypes a class, and what keeps rare classes: a quota each, or the density."""

    confidence: Weight = 1.0
    outlier: Weight = 1.0
    density: Weight = 1.0
    prototypes: Positive = 4
    balance: Literal["quota", "density"] = "quota"


class Curate(Section):
    """Which OOD images the pool keeps, by what the teacher says of them; `count` None keeps as many as there are training images.

    `confidence` is DFND's rule, `odsd` ODSD's.
    """

    keep: Literal["highest_entropy", "lowest_entropy", "confidence", "odsd", "random", "all"] = "all"
    count: Positive | None = None
    odsd: Odsd = Odsd()


class StudentDomain(Section):
    """A labelled set of the teacher's classes in another domain, which the student is for; its training images are the pool.

    `train` and `val` say how many images each takes; by default 80 % and 10 %. The rest is its test split, unless the source has
    one of its own.
    """

    source: Literal["student_domain"]
    images: Source
    train: Positive | None = None
    val: Positive | None = None


class Distill(Section):
    """The student and its schedule, the same for every method.

    `batch` is B of the papers: a student step sees B synthetic images of a method that makes some, with B of the pool beside them
    in MosaicKD, or 2B real ones. SGD with momentum 0.9, cosine to 0.
    """

    student: str
    student_steps: Positive
    batch: Annotated[int, Field(ge=2)]
    lr: Rate
    weight_decay: Weight
    augment: Augment = Augment()


class Task(Section):
    """One distillation problem: in-domain data (for the teacher and for scoring only), OOD data, networks, schedule.

    Where the OOD data is a `student_domain`, students are scored on it too.
    """

    kind: Literal["classification"] = "classification"
    image: Shape
    in_domain: Source
    ood: Annotated[Source | StudentDomain, Field(discriminator="source")]
    teacher: Teacher
    curate: Curate
    distill: Distill

    @property
    def student_domain(self) -> StudentDomain | None:
        """The labelled domain that the student is for, where the task names one."""
        return self.ood if isinstance(self.ood, StudentDomain) else None

    def smoke(self) -> Self:
        """The same task shrunk to seconds: every part still runs, no number means anything."""
        teacher = self.teacher
        if teacher.train:
            teacher = teacher.model_copy(update={"train": teacher.train.model_copy(update={"epochs": 1, "batch": 32})})
        distill = self.distill.model_copy(update={"student_steps": 10, "batch": 16})
        curate = self.curate.model_copy(update={"count": min(self.curate.count or SMOKE_IMAGES, SMOKE_IMAGES)})
        return self.model_copy(update={"teacher": teacher, "distill": distill, "curate": curate})


SMOKE_IMAGES = 128  # of each split, where `run.scale` is smoke


class Run(Section):
    """What `dvc repro` runs, and how."""

    tasks: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[list[str], Field(min_length=1)]
    ablations: dict[str, list[str]] = Field(default_factory=dict)
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    scale: Literal["full", "smoke"] = "full"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    checkpoint_steps: Positive = 5000
    checkpoint_minutes: Rate = 2.0

    @model_validator(mode="after")
    def _no_repeats(self) -> "Run":
        lists = {key: getattr(self, key) for key in ("tasks", "methods", "seeds")}
        lists |= {f"ablations.{name}": variants for name, variants in self.ablations.items()}
        for key, values in lists.items():
            if len(set(values)) < len(values):
                raise ValueError(f"`{key}` names something twice")
        return self

    @property
    def labels(self) -> list[str]:
        """The students' rows of a table: methods, then their ablations as METHOD_VARIANT."""
        return [*self.methods, *(f"{name}_{variant}" for name, variants in self.ablations.items() for variant in variants)]


TEACHER = "teacher"  # the label of the teacher's row
STUDENT_DOMAIN = "student_domain"  # under which scores on it stand


def runs(run: Run) -> list[tuple[str, int]]:
    """(label, seed) of every row-making run of a task: the teacher, then methods, then ablations."""
    return [(TEACHER, 0), *((label, seed) for label in run.labels for seed in run.seeds)]


class _File(Section):
    """The sections of params.yaml; `parts` holds what tasks share through YAML anchors."""

    run: Run
    task: dict[Name, Task]
    method: dict[Name, dict[str, Any]]
    ablation: dict[Name, dict[Name, dict[str, Any]]] = Field(default_factory=dict)
    parts: Any = None


@dataclass(frozen=True)
class Params:
    """The checked file. `method_section` gives a method's parameters for one task."""

    run: Run
    tasks: dict[str, Task]
    methods: dict[str, dict[str, Any]]
    ablations: dict[str, tuple[str, dict[str, Any]]]  # METHOD_VARIANT -> the method, and what is changed of it

    def task(self, name: str) -> Task:
        """The task called `name`, at the scale of `run.scale`; raises UserError for an unknown name."""
        task = _known(self.tasks, name, "task")
        return task.smoke() if self.run.scale == "smoke" else task

    def method_of(self, label: str) -> str:
        """The method that a row of the table runs: itself, or the one that an ablation changes."""
        if label in self.ablations:
            return self.ablations[label][0]
        _known(self.methods, label, "method")
        return label

    def method_section(self, label: str, task: str) -> Section:
        """The typed parameters of a method or ablation for `task`.

        A value may be a map {default: ..., TASK: ...}; the entry of the task counts, or of the longest name that its name begins
        with ("digits" for digits-letters), else the default.
        """
        name = self.method_of(label)
        section = {key: _for_task(f"method.{name}.{key}", value, task, self.tasks) for key, value in self.methods[name].items()}
        _, changes = self.ablations.get(label, (name, {}))
        where = f"ablation.{name}.{label.removeprefix(f'{name}_')}" if changes else f"method.{name}"
        checked: Section = _check(method_class(name).Params, section | changes, where)
        return checked.smoke() if self.run.scale == "smoke" else checked


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check the whole file. Raises UserError that names the key and the fix."""
    try:
        content = yaml.load(path.read_text(), Loader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run from the top folder of the repository") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    checked = _check(_File, content, "")
    variants: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, changes in checked.ablation.items():
        _known(checked.method, name, "method", "params.yaml: ablation: ")
        variants |= {f"{name}_{variant}": (name, values) for variant, values in changes.items()}
    if both := variants.keys() & checked.method.keys():
        raise UserError(f"params.yaml: '{min(both)}' is a method and an ablation; rename one")
    params = Params(checked.run, checked.task, checked.method, variants)
    for axis, known in (("task", params.tasks), ("method", params.methods)):
        for name in getattr(params.run, f"{axis}s"):
            _known(known, name, axis, f"params.yaml: run.{axis}s: ")
    for method, chosen in params.run.ablations.items():
        for name in chosen:
            _known(checked.ablation.get(method, {}), name, "ablation", f"params.yaml: run.ablations.{method}: ")
    for label in (*params.methods, *params.ablations):
        for task in params.tasks:
            params.method_section(label, task)
    return params


def method_class(name: str) -> Any:
    """The class `Method` of stages/methods/NAME.py; raises UserError where there is no such file."""
    try:
        return importlib.import_module(f"stages.methods.{name}").Method
    except ModuleNotFoundError as error:
        if error.name != f"stages.methods.{name}":
            raise
        raise UserError(f"params.yaml: method.{name}: there is no stages/methods/{name}.py") from None


def _known(names: dict[str, Any], name: str, what: str, where: str = "") -> Any:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"params.yaml defines {', '.join(names) or 'none'}"
        raise UserError(f"{where}unknown {what} '{name}'; {hint}")
    return names[name]


def _for_task(where: str, value: Any, task: str, tasks: dict[str, Task]) -> Any:
    if not (isinstance(value, dict) and "default" in value):
        return value
    for name in value.keys() - {"default"}:
        if not any(_in_family(known, name) for known in tasks):
            _known(tasks, name, "task", f"params.yaml: {where}: ")
    return value[max((name for name in value if _in_family(task, name)), key=len, default="default")]


def _in_family(task: str, name: str) -> bool:
    """Whether `task` is called `name`, or `name` and more after a dash."""
    return f"{task}-".startswith(f"{name}-")


def _check(model: Any, content: Any, where: str) -> Any:
    try:
        return TypeAdapter(model).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        keys = _keys(first["loc"], content, missing=first["type"] == "missing")
        message = first["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
        path = ".".join([where, *keys] if where else keys)
        raise UserError(f"params.yaml: {path or 'the file'}: {message[:1].lower()}{message[1:]}{shown}") from None


def _keys(loc: tuple[str | int, ...], content: Any, missing: bool) -> list[str]:
    """The keys of `content` in pydantic's path, which also names what it chose of a union; a missing key is the last."""
    keys = []
    for part in loc:
        if part in content if isinstance(content, dict) else isinstance(content, list) and isinstance(part, int):
            content = content[part]
            keys.append(str(part))
    return [*keys, str(loc[-1])] if missing else keys


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML reads `1e-3` as a string; DVC and YAML 1.2 read a number, and so do we."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
