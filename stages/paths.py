"""Where each artifact lives, relative to the top folder of the repository; dvc.yaml says the same."""

from pathlib import Path

CHECKPOINTS = Path(".cache/checkpoints")
RESULTS = Path("results")


def split(task: str, name: str) -> Path:
    """Images of one split: train, val and test are in-domain, ood is not."""
    return Path("data/tasks") / task / f"{name}.safetensors"


def student_domain(task: str, name: str) -> Path:
    """Labelled images of the domain that the student is for, where a task names one: train, val and test."""
    return Path("data/tasks") / task / "student_domain" / f"{name}.safetensors"


def overlap(task: str) -> Path:
    """Which OOD images stand in the in-domain test split too."""
    return Path("data/tasks") / task / "overlap.json"


def pool(task: str) -> Path:
    """The folder of the curated OOD images, the teacher's scores and logits."""
    return Path("data/pools") / task


def teacher(task: str) -> Path:
    """The folder of the teacher's weights and card."""
    return Path("models/teachers") / task


def student(task: str, label: str, seed: int) -> Path:
    """The folder of one run's student, card and synthetic samples."""
    return Path("models/students") / task / label / str(seed)


def curve(task: str, label: str, seed: int) -> Path:
    """The learning curve of one run (label `teacher` for the teacher)."""
    return RESULTS / "curves" / task / label / f"{seed}.csv"


def scores(task: str, label: str, seed: int) -> Path:
    """The folder of one run's metrics and predictions on the in-domain test split."""
    return RESULTS / "runs" / task / label / str(seed)


def report(task: str) -> Path:
    """The means of one task's runs, in git."""
    return RESULTS / "tasks" / f"{task}.json"


def figures(task: str) -> Path:
    """The folder of one task's figures, in git."""
    return RESULTS / "figures" / task
