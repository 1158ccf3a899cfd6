import os
import shutil

# Before torch starts its threads: workers side by side, and what they start, take one each. More would get into each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
import yaml

from stages import curate, distill, evaluate, prepare, train_teacher
from stages.settings.catalogue import Catalogue, patched
from stages.settings.yaml import Loader
from tests.clones import REPOSITORY

Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
SMOKE = {"tasks": ["digits"], "methods": ["kd_ood", "mosaickd"], "seeds": [0], "scale": "smoke"}


LONGEST = (
    "test_pipeline.py",
    "test_processes.py",
    "test_run.py",
    "test_repro.py",
    "test_own_task.py",
    "test_plan.py",
    "test_teachers.py",
    "test_stages.py",
    "test_augkd.py",
)  # of minutes: one begun last would run alone


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


class Project:
    """A folder with a params.yaml and tasks of its own: the committed ones, at smoke scale, with changes."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(REPOSITORY / "tasks", folder / "tasks")
        shutil.copy(REPOSITORY / "params.yaml", folder)
        self.change("run", **SMOKE)

    def change(self, section, **values):
        """Set keys of a section of params.yaml; of 'task.digits.ood' and 'variant.fast_long', in the file where it stands.

        'page.task' is what params.yaml says of all tasks.
        """
        first, *keys = section.split(".")
        places = {"task": (self._file(keys), keys), "variant": ("tasks/variants.yaml", keys), "page": ("params.yaml", keys)}
        file, keys = places.get(first, ("params.yaml", [first, *keys]))
        path = self.folder / file
        node = content = (yaml.load(path.read_text(), Loader) if path.exists() else None) or {}
        for key in keys:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node.update(values)
        path.write_text(yaml.dump(content, Dumper=Dumper))
        shutil.rmtree(self.folder / "data" / "plans", ignore_errors=True)  # stage `plan` would write them anew

    def _file(self, keys):
        """Where a task stands; a new one is its user's."""
        known = Catalogue(self.folder / "tasks").tasks
        return known[keys[0]].file.relative_to(self.folder) if keys and keys[0] in known else "tasks/mine.yaml"

    def section(self, task):
        """All that a task says, with what it inherits."""
        content = {}
        for layer in Catalogue(self.folder / "tasks").layers(task):
            content = patched(content, layer.content)
        return content

    def teach(self, task):
        """All that comes before a student: the examples, the teacher and the pool."""
        for stage in (prepare, train_teacher, curate):
            stage.main(task)

    def score(self, task, rows):
        """All that comes before a report: one student of each row, and its scores."""
        self.teach(task)
        for row in rows:
            distill.main(task, row, "0")
        evaluate.main(task)

    def write(self, text, file="params.yaml"):
        (self.folder / file).write_text(text)


@pytest.fixture
def fp64():
    """New tensors and networks are of double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)
