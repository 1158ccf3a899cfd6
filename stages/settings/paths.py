"""Where each artifact lives, relative to the top folder of the repository; dvc.yaml says the same."""

from pathlib import Path

from stages.settings.task import STUDENT_DOMAIN

CHECKPOINTS = Path(".cache/checkpoints")
PLANS = Path("data/plans")
RESULTS = Path("results")
STUDENTS = Path("models/students")
FULL = "full"  # the scale whose tables are in git
RUN = "run.json"  # beside weights, the last to be written: it vouches for the rest


def plan(task: str, name: str) -> Path:
    """The plan of a row of a task, or of one of the task's stages."""
    return PLANS / task / f"{name}.json"


def overview_plan() -> Path:
    """The plan of stage `overview`."""
    return PLANS / "overview.json"


def identities() -> Path:
    """The identities of all rows of all tasks."""
    return PLANS / "identities.json"


def split(task: str, name: str) -> Path:
    """Examples of one split: train, val and test are in-domain, ood is not.

    They lie apart, for stages depend on folders: `splits` is for training, `ood` for `curate`, `test` for `evaluate` alone.
    """
    folder = {"test": "test", "ood": "ood"}.get(name, "splits")
    return data(task) / folder / f"{name}.safetensors"


def data(task: str) -> Path:
    """The folder of a task's examples."""
    return Path("data/tasks") / task


def sources(task: str) -> Path:
    """What a task's examples were read from: the size and time of each file or folder."""
    return data(task) / "sources.json"


def student_domain(task: str, name: str) -> Path:
    """Labelled images of the domain that the student is for, where a task names one: train, val and test."""
    return split(task, name).with_name(f"{STUDENT_DOMAIN}-{name}.safetensors")


def overlap(task: str) -> Path:
    """Which OOD images stand in the in-domain test split too."""
    return data(task) / "ood" / "overlap.json"


def pool(task: str) -> Path:
    """The folder of the curated OOD images, the teacher's scores and logits."""
    return Path("data/pools") / task


def teacher(task: str) -> Path:
    """The folder of the teacher's weights and card."""
    return Path("models/teachers") / task


def student(task: str, row: str, seed: int) -> Path:
    """The folder of one run's student, card and synthetic samples."""
    return STUDENTS / task / row / str(seed)


def template(task: str, seed: int) -> Path:
    """A network of the teacher's kind, trained with another seed."""
    return Path("models/templates") / task / f"seed_{seed}"


def results(scale: str = FULL) -> Path:
    """The folder of the tables; those of smoke scale lie apart, out of git."""
    return RESULTS if scale == FULL else RESULTS / scale


def impressions(task: str) -> Path:
    """The folder of what templates remember: numbers and pictures."""
    return RESULTS / "impressions" / task


def codes(task: str) -> Path:
    """The impressions of a task's sets of images, by its teacher."""
    return Path("models/impressions") / task / "sets.safetensors"


def curve(task: str, row: str, seed: int) -> Path:
    """The learning curve of one run (row `teacher` for the teacher)."""
    return RESULTS / "curves" / task / row / f"{seed}.csv"


def scores(task: str, row: str, seed: int) -> Path:
    """The folder of one run's metrics and predictions on the in-domain test split."""
    return RESULTS / "runs" / task / row / str(seed)


def report(task: str, scale: str = FULL) -> Path:
    """What is known of every row of one task, in git."""
    return results(scale) / "tasks" / f"{task}.json"


def figures(task: str) -> Path:
    """The folder of one task's figures, which may show a user's images: DVC's, not git's."""
    return RESULTS / "figures" / task


def published(task: str) -> Path:
    """The folder of those figures of a task of the catalogue that are in git, for pages."""
    return Path("docs/figures") / task
