"""A task: one distillation problem, as a file in tasks/ describes it."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, TypeAdapter, model_validator

from stages.datasets.examples import Examples
from stages.datasets.images import IMAGES, Augment, ImageForm
from stages.datasets.sources import FOLDER, Source, names
from stages.datasets.texts import TEXTS, TextForm
from stages.settings.catalogue import MAKES
from stages.settings.rates import Falling
from stages.support.files import distinct, listed
from stages.support.plugins import OWN, leading, plugin
from stages.support.sections import Positive, Rate, Section, Seed, Share, Weight, Word

LABELLED, UNLABELLED, HELD_OUT = "labels", "in_domain", "pool"  # by what students are measured; see `Task.measured`
STUDENT_DOMAIN = "student_domain"  # a labelled domain that the student is for: its source, its splits, its scores
EVERYTHING = "all"  # the rule of curation that keeps all examples
SMOKE_IMAGES = 128  # of each split, where `run.scale` is smoke


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9][\w.-]*", value):
        raise ValueError("a name is made of letters, digits, '-', '_' and '.'")
    return value


Name = Annotated[str, AfterValidator(_name)]
# auto: bf16 on GPUs, and on CPUs made for it where networks are wide; fp32 elsewhere.
Precision = Literal["auto", "fp32", "bf16"]


class File(Section):
    """Weights that somebody made elsewhere, and their hash; without one, the stage `plan` takes that of the file as it is."""

    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None


class Start(File):
    """Weights to start from: all tensors of the network, or of its module `into` (`backbone`), but those whose names begin with
    a word of `without` (its head).

    `key` is the part of the file that has them, where it has several.
    """

    key: str = ""
    into: str = ""
    without: list[str] = Field([])


Optimizer = Literal["sgd", "adam", "adamw"]


class Recipe(Section):
    """What every training says: SGD with momentum 0.9, or another `optimizer`, the learning rate falling as `rate` says.

    Gradients longer than `clip` are shortened to it.
    """

    batch: Annotated[int, Field(ge=2)]
    lr: Rate
    weight_decay: Weight
    augment: Augment = Augment()
    optimizer: Optimizer = "sgd"
    rate: Falling = "cosine"
    clip: Rate | None = None


class Train(Recipe):
    """How a teacher is trained: from random weights, which `seed` draws, or those of `start`; SGD has Nesterov's momentum.

    Down the cross-entropy or, with an exponent `focal`, the focal loss.
    """

    epochs: Positive
    focal: Weight = 0.0
    start: Start | None = None
    seed: Seed = 0


class Weights(Start):
    """A trained teacher to import, and the statistics by which it normalises images, where its own configuration has none."""

    mean: list[float] = Field([])
    std: list[Rate] = Field([])


class Teacher(Section):
    """The teacher's network, and either how to train it or where its weights are.

    `exported: teacher.pt2`, `onnx: teacher.onnx` and `answers: answers.csv` stand in place of both. What it takes and gives:
    images of `resize` pixels a side, channels in `order`, values up to `range`; it `gives` logits or probabilities, which are the
    `output` of several; and `classes` are the logits that the task's classes have, by number or name. `accuracy` is what its
    owner measured, in percent. `trust_code` allows a network of the user's own code.
    """

    also: ClassVar = MAKES
    network: str
    train: Train | None = None
    weights: Weights | None = None
    resize: Positive | list[Positive] | None = None
    order: Literal["rgb", "bgr"] = "rgb"
    range: Literal[1, 255] = 1
    output: str | int | None = None
    gives: Literal["logits", "probabilities"] | None = None
    classes: list[Any] = Field([])
    trust_code: bool = False
    accuracy: Annotated[float, Field(gt=1, le=100)] | None = None  # in percent

    @model_validator(mode="before")
    @classmethod
    def _make(cls, values: Any) -> Any:
        makes = [make for make in MAKES if isinstance(values, dict) and values.get(make) is not None]
        if not makes:
            return values
        if len(makes) > 1 or {"network", "train", "weights"} & {key for key, value in values.items() if value is not None}:
            raise ValueError(f"`{makes[0]}` is a whole teacher; leave out `network`, `train`, `weights` and other files")
        rest, file = {key: value for key, value in values.items() if key not in MAKES}, values[makes[0]]
        if isinstance(file, str):
            file = {"path": file}
        if not isinstance(file, dict) or not {"path"} <= file.keys() <= {"path", "sha256", "mean", "std"}:
            raise ValueError(f"`{makes[0]}` is a file, or {{path: ..., mean: [...], std: [...]}} with sha256, if any")
        return {**rest, "network": makes[0], "weights": file}

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.train is None) == (self.weights is None):
            raise ValueError("give either `train` (we train the teacher) or `weights` (you bring it), not both")
        if OWN in self.network and not self.trust_code:
            raise ValueError(f"`{self.network}` is your own code, which runs with all your rights; say `trust_code: true`")
        if self.network in MAKES and self.train:
            raise ValueError(f"`{self.network}` is not trained here; give `{self.network}: FILE`")
        if isinstance(self.resize, list) and len(self.resize) != 2:
            raise ValueError("`resize` is a number of pixels a side, or [height, width]")
        if self.network == "answers" and isinstance(self, PartTeacher):
            raise ValueError("`answers` teach alone: of several teachers each must be one that can be asked")
        return self

    @property
    def foreign(self) -> bool:
        """Whether it is of a make that is known by its files alone, or none of ours."""
        return self.weights is not None and (self.network in MAKES or leading(self.network) in ("huggingface", "own", "timm"))

    @property
    def adapted(self) -> bool:
        """Whether it takes images, or gives answers, in a way of its own."""
        return bool(self.resize or self.order != "rgb" or self.range != 1 or self.output is not None or self.gives or self.picked)

    @property
    def picked(self) -> list[Any]:
        """The logits, by number or name, that are the task's classes; none where all are."""
        return list(self.classes)

    def smoke(self) -> Self:
        """One epoch, where it is trained."""
        return self.model_copy(update={"train": self.train.model_copy(update={"epochs": 1, "batch": 32})}) if self.train else self


class PartTeacher(Teacher):
    """One of several teachers, which knows some of the task's classes: their names, or text files (.txt) with one name a line."""

    classes: Annotated[list[Word], Field(min_length=1)]

    def names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of its logits."""
        return tuple(listed(self.classes))

    @property
    def picked(self) -> list[Any]:
        """All of its logits."""
        return []


class StudentDomain(Section):
    """A labelled set of the teacher's classes in another domain, which the student is for; its training images are the pool.

    `train` and `val` say how many images each takes; by default 80 % and 10 %. The rest is its test split, unless the source has
    one of its own.
    """

    source: Literal["student_domain"]
    images: Source
    train: Positive | None = None
    val: Positive | None = None


_SOURCE = TypeAdapter(Source)


class Unlabelled(Section):
    """In-domain images or texts of which nobody knows the classes; `labels: none` says so, beside the keys of their source."""

    labels: Literal["none"]
    images: Source

    def read(self, form: Any) -> Examples:
        """What the source has for training, without labels."""
        return self.images.read(form).unlabelled()

    def read_test(self, form: Any) -> Examples | None:
        """The same of its test part, if any."""
        test: Examples | None = self.images.read_test(form)
        return test and test.unlabelled()


def _in_domain(content: Any) -> Any:
    if isinstance(content, Unlabelled) or not (isinstance(content, dict) and "labels" in content):
        return _SOURCE.validate_python(content)
    if content["labels"] != "none" and "labels" in plugin(FOLDER, str(content.get("source")), "Source", "source").model_fields:
        return _SOURCE.validate_python(content)  # which says by it where masks lie
    if content["labels"] != "none":
        raise ValueError(
            f"`labels` is `none`, or left out where the source has labels (it is {content['labels']!r}); `classes` names classes"
        )
    return Unlabelled(labels="none", images={key: value for key, value in content.items() if key != "labels"})


def _ood(content: Any) -> Any:
    if isinstance(content, dict) and content.get("source") == STUDENT_DOMAIN:
        return StudentDomain.model_validate(content)
    return _SOURCE.validate_python(content)


class Student(Section):
    """The student's network, and what it starts from: random weights, a file, or modules of the teacher by name.

    A module of `teacher_layers` is copied with all that is in it; it must have the same name and form in both networks. Of an
    encoder, `spread` copies all but its layers, and these from evenly spaced ones of the teacher, the last included; `first` from
    the teacher's first. Modules that are `frozen` stay as they start.
    """

    network: str
    weights: Start | None = None
    teacher_layers: Literal["spread", "first"] | list[str] = Field([])
    frozen: list[str] = Field([])

    @model_validator(mode="after")
    def _one_start(self) -> "Student":
        if self.weights and self.teacher_layers:
            raise ValueError("give either `weights` or `teacher_layers`, or neither for random weights")
        return self


class Distill(Recipe):
    """The student and its schedule, the same for every method that does not bring its own (`method.NAME.schedule`).

    `batch` is B of the papers: a student step sees B synthetic images of a method that makes some, with B of the pool beside them
    in MosaicKD, or 2B real ones. `augment_pool` is the augmentation of the pool's images, where it is another (digits of street
    numbers are not flipped, synthetic images may be).
    """

    student: Annotated[Student, BeforeValidator(lambda given: {"network": given} if isinstance(given, str) else given)]
    student_steps: Positive
    augment_pool: Augment | None = None


class Split(Section):
    """Parts of labelled in-domain data whose source has no test part of its own: `test`, and `val` of what is left."""

    test: Share
    val: Share


def _numbered(classes: Any) -> Any:
    """The names of so many classes, where that is all that is said."""
    if not isinstance(classes, int) or isinstance(classes, bool):
        return classes
    if classes < 2:
        raise ValueError("`classes` is two or more, or their names")
    return list(range(classes))


TRAINED = {"test": 0.3, "val": 0.1}  # where the teacher is trained here
IMPORTED = {"test": 0.6, "val": 0.4}  # where it is not, and labelled images are for scoring
NOTHING = {"test": 0.1, "val": 0.05}  # of the OOD images, where there are no others


class Task(Section):
    """One distillation problem: in-domain data (for the teacher and for scoring only), OOD data, networks, schedule.

    `in_domain` may be left out: then a part of the OOD data is held out, on which students are compared with the teacher.
    `classes` names the teacher's classes in the order of its logits: a list, a text file with one name a line, or how many there
    are. Where there are labels, these are put in that order, and others left out.
    Several `teachers`, each of classes of its own, answer as one. Where the OOD data is a `student_domain`, students are scored
    on it too. `curate` is checked by the rule that it names. `precision` of teacher and students, where it is not the run's.
    """

    kind: str = "classification"
    image: ImageForm | None = None
    text: TextForm | None = None
    in_domain: Annotated[Any, PlainValidator(_in_domain)] = None
    classes: Annotated[list[Word] | str | None, BeforeValidator(_numbered)] = None
    ood: Annotated[Any, PlainValidator(_ood)]
    teacher: Teacher | None = None
    teachers: list[PartTeacher] = Field([])
    split: Split
    curate: dict[str, Any] = Field(default_factory=lambda: {"keep": EVERYTHING})
    distill: Distill
    precision: Precision | None = None

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "split" in values:
            return values
        several = values.get("teachers")
        taught = several if isinstance(several, list) else [values.get("teacher")]
        trained = any(isinstance(one, dict) and one.get("train") for one in taught)
        return {**values, "split": NOTHING if not values.get("in_domain") else TRAINED if trained else IMPORTED}

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.image is None) == (self.text is None):
            raise ValueError("give either `image` (what images are like) or `text` (what texts are like)")
        return self

    @model_validator(mode="after")
    def _some_teacher(self) -> Self:
        if bool(self.teacher) == bool(self.teachers) or len(self.teachers) == 1:
            raise ValueError("give either `teacher`, or `teachers`: two or more, each with its `classes`")
        classes = [name for part in self.teachers for name in part.classes]
        if twice := sorted({name for name in classes if classes.count(name) > 1}):
            raise ValueError(f"teachers: two of them have the class '{twice[0]}'; each class has one teacher")
        return self

    @model_validator(mode="after")
    def _labels_where_needed(self) -> Self:
        if self.measured == LABELLED:
            return self
        fix = "give labelled images under `in_domain`"
        if any(part.train for part in self.parts):
            raise ValueError(f"a teacher that is trained here learns from labels; {fix}, or bring its `weights`")
        if self.student_domain:
            raise ValueError(f"a student of another domain is measured beside labelled images of the teacher's; {fix}")
        if self.text and self.text.tokenizer is None:
            raise ValueError(f"no texts say which words the teacher knows; name its tokenizer (`text.tokenizer`), or {fix}")
        return self

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        wanted, given = TEXTS if self.text else IMAGES, [one.model_dump() for one in (self.in_domain, self.ood) if one]
        for name in sorted(names(given) - {STUDENT_DOMAIN}):
            gives = getattr(plugin(FOLDER, name, "Source", "source"), "gives", IMAGES)
            if gives not in (None, wanted):
                raise ValueError(f"the source '{name}' gives {gives}, and the task is of {wanted}; take another one")
        return self

    @property
    def parts(self) -> list[Teacher]:
        """All teachers, in the order of their logits."""
        return [self.teacher] if self.teacher else list(self.teachers)

    @property
    def measured(self) -> str:
        """By what students are measured: `labels`, or else the teacher's answers to `in_domain` images, or to the `pool`'s."""
        if self.in_domain is None:
            return HELD_OUT
        return UNLABELLED if isinstance(self.in_domain, Unlabelled) else LABELLED

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, as far as the task says them, in the order of the teacher's logits."""
        return distinct(listed(self.classes or [])) or tuple(name for part in self.teachers for name in part.names())

    @property
    def form(self) -> Any:
        """What one input is like, whatever the kind."""
        return self.image or self.text

    @property
    def student_domain(self) -> StudentDomain | None:
        """The labelled domain that the student is for, where the task names one."""
        return self.ood if isinstance(self.ood, StudentDomain) else None

    def smoke(self) -> Self:
        """The same task shrunk to seconds: every part still runs, no number means anything."""
        distill = self.distill.model_copy(update={"student_steps": 10, "batch": 16})
        parts = [part.smoke() for part in self.parts]
        taught = {"teacher": parts[0]} if self.teacher else {"teachers": parts}
        count = getattr(self.ood, "count", None)
        ood = self.ood.model_copy(update={"count": min(count, SMOKE_IMAGES)}) if count else self.ood
        return self.model_copy(update={**taught, "distill": distill, "ood": ood})
