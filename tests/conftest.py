import os
import shutil

# Before torch starts its threads: workers side by side, and what they start, take one each. More would get into each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
import yaml

from stages import curate, prepare, train_teacher
from stages.settings.yaml import Loader
from tests.clones import REPOSITORY

SMOKE = {"tasks": ["digits"], "methods": ["kd_ood", "mosaickd"], "seeds": [0], "scale": "smoke"}


LONGEST = ("test_pipeline.py", "test_processes.py")  # files of minutes: one that began last would run alone


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


class Project:
    """A folder with a params.yaml of its own: the committed one, at smoke scale, with changes."""

    def __init__(self, folder):
        self.folder = folder
        self.params = written_out(yaml.load((REPOSITORY / "params.yaml").read_text(), Loader))  # a test changes one task alone
        self.change("run", **SMOKE)

    def change(self, section, **values):
        """Set keys of a section such as 'task.digits.ood' and write the file."""
        node = self.params
        for key in section.split(".") if section else []:
            node = node[key]
        node.update(values)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))
        shutil.rmtree(self.folder / "data" / "plans", ignore_errors=True)  # stage `plan` would write them anew

    def teach(self, task):
        """All that comes before a student: the examples, the teacher and the pool."""
        for stage in (prepare, train_teacher, curate):
            stage.main(task)

    def write(self, text):
        (self.folder / "params.yaml").write_text(text)


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
