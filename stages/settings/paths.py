"""Where each artifact lives, relative to the top folder of the repository; dvc.yaml says the same."""

from dataclasses import dataclass
from pathlib import Path

from stages.settings.task import STUDENT_DOMAIN, Task

CHECKPOINTS = Path(".cache/checkpoints")
PLANS = Path("data/plans")
RESULTS = Path("results")
STUDENTS = Path("models/students")
RUN = "run.json"  # beside weights, the last to be written: it vouches for the rest
FULL = "full"  # the scale whose tables are in git


@dataclass(frozen=True)
class Places:
    """Where all that belongs to one task lies."""

    task: str

    def plan(self, name: str) -> Path:
        """The plan of a row, or of one of the task's stages."""
        return PLANS / self.task / f"{name}.json"

    @property
    def data(self) -> Path:
        """The folder of the task's examples."""
        return Path("data/tasks") / self.task

    def split(self, name: str) -> Path:
        """Examples of one split: train, val and test are in-domain, ood is not.

        They lie apart, for stages depend on folders: `splits` is for training, `ood` for `curate`, `test` for `evaluate` alone.
        """
        folder = {"test": "test", "ood": "ood"}.get(name, "splits")
        return self.data / folder / f"{name}.safetensors"

    def student_domain(self, name: str) -> Path:
        """Labelled images of the domain that the student is for, where the task names one: train, val and test."""
        return self.split(name).with_name(f"{STUDENT_DOMAIN}-{name}.safetensors")

    def validation(self, task: Task) -> Path:
        """Validation examples of the domain that students of `task` are for."""
        return self.student_domain("val") if task.student_domain else self.split("val")

    @property
    def sources(self) -> Path:
        """What the task's examples were read from: the size and time of each file or folder."""
        return self.data / "sources.json"

    @property
    def shards(self) -> Path:
        """Where the OOD images lie that `curate` streams, if it does; `prepare` then leaves no `ood` split."""
        return self.data / "ood" / "shards.json"

    @property
    def known(self) -> Path:
        """The images that a streamed pool should not have, for they measure students."""
        return self.data / "ood" / "known.safetensors"

    @property
    def overlap(self) -> Path:
        """Which OOD images stand in the in-domain test split too."""
        return self.data / "ood" / "overlap.json"

    @property
    def held_out(self) -> Path:
        """Which OOD examples were held out to compare students with the teacher: their files, or numbers in their source."""
        return self.data / "ood" / "held_out.json"

    @property
    def pool(self) -> Path:
        """The folder of the curated OOD images, the teacher's scores and logits."""
        return Path("data/pools") / self.task

    @property
    def teacher(self) -> Path:
        """The folder of the teacher's weights and card."""
        return Path("models/teachers") / self.task

    def student(self, row: str, seed: int) -> Path:
        """The folder of one run's student, card and synthetic samples."""
        return STUDENTS / self.task / row / str(seed)

    @property
    def exported(self) -> Path:
        """The folder of the students that ship: a folder each, by row and seed."""
        return Path("models/exported") / self.task

    def template(self, seed: int) -> Path:
        """A network of the teacher's kind, trained with another seed."""
        return Path("models/templates") / self.task / f"seed_{seed}"

    @property
    def impressions(self) -> Path:
        """The folder of what templates remember: numbers and pictures."""
        return RESULTS / "impressions" / self.task

    @property
    def codes(self) -> Path:
        """The impressions of the task's sets of images, by its teacher."""
        return Path("models/impressions") / self.task / "sets.safetensors"

    def curve(self, row: str, seed: int) -> Path:
        """The learning curve of one run (row `teacher` for the teacher)."""
        return RESULTS / "curves" / self.task / row / f"{seed}.csv"

    def scores(self, row: str, seed: int) -> Path:
        """The folder of one run's metrics and predictions on the in-domain test split."""
        return RESULTS / "runs" / self.task / row / str(seed)

    def report(self, scale: str = FULL) -> Path:
        """What is known of every row, in git."""
        return results(scale) / "tasks" / f"{self.task}.json"

    @property
    def figures(self) -> Path:
        """The folder of the task's figures, which may show a user's images: DVC's, not git's."""
        return RESULTS / "figures" / self.task

    @property
    def published(self) -> Path:
        """The folder of those figures of a task of the catalogue that are in git, for pages."""
        return Path("docs/figures") / self.task


def overview_plan() -> Path:
    """The plan of stage `overview`."""
    return PLANS / "overview.json"


def identities() -> Path:
    """The identities of all rows of all tasks."""
    return PLANS / "identities.json"


def results(scale: str = FULL) -> Path:
    """The folder of the tables; those of smoke scale lie apart, out of git."""
    return RESULTS if scale == FULL else RESULTS / scale
