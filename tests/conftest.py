import copy
from pathlib import Path

import pytest
import torch
import yaml

REPOSITORY = Path(__file__).parent.parent
SMOKE = {"tasks": ["digits"], "methods": ["kd_ood", "mosaickd"], "seeds": [0], "scale": "smoke"}


@pytest.fixture(autouse=True, scope="session")
def _two_threads():
    torch.set_num_threads(2)


class Project:
    """A folder with a params.yaml of its own: the committed one, at smoke scale, with changes."""

    def __init__(self, folder):
        self.folder = folder
        self.params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
        self.params["method"]["mosaickd"]["lr"] = 1e-3  # PyYAML's own loader reads 1e-3 as a string
        for task in self.params["task"].values():
            task["teacher"] = copy.deepcopy(task["teacher"])
            task["teacher"].get("train", {})["weight_decay"] = 5e-4
            task["distill"]["weight_decay"] = 1e-4
        self.change("run", ablations=[], **SMOKE)

    def change(self, section, **values):
        """Set keys of a section such as 'task.digits.ood' and write the file."""
        node = self.params
        for key in section.split(".") if section else []:
            node = node[key]
        node.update(values)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))

    def write(self, text):
        (self.folder / "params.yaml").write_text(text)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)
