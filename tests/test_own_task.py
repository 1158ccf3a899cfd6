"""docs/own-task as it is printed, at smoke scale: from a teacher and a folder to student.onnx and predictions."""

import csv
import re
import shlex

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from tests.clones import REPOSITORY, clone, commit, run

PAGE = (REPOSITORY / "docs/own-task.md").read_text()
SHOWN = "data/raw/others"


def printed(title):
    """The commands under a title, without what installs packages."""
    block = re.search(rf"## {title}\n.*?```bash\n(.*?)(?=\n## )", PAGE, re.DOTALL)[1]
    lines = [line for line in block.splitlines() if line.startswith("uv run")]
    return [re.sub(r"^uv run (--group \w+ )?", "", line) for line in lines]


def test_from_a_teacher_and_a_folder_to_predictions(tmp_path):
    pytest.importorskip("onnxruntime")
    (task,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "exported:" in block]
    names = yaml.safe_load(task)["mine"]["classes"]
    folder = clone(tmp_path / "project", methods=["kd_ood"], seeds=[0], scale="smoke")
    (folder / "tasks/mine.yaml").write_text(task.replace("torchvision.mobilenet_v3_small", "convnet_16"))  # seconds sooner
    (folder / SHOWN).mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for n in range(40):
        pixels = torch.randint(0, 256, (70, 90, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / SHOWN / f"{n}.png")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, len(names))).eval()
    program = torch.export.export(net, (torch.zeros(2, 3, 64, 64),), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
    torch.export.save(program, folder / "data/raw/teacher.pt2")
    commit(folder)
    first, *_ = (shlex.split(line) for line in printed("Run it"))
    assert first[-1] == "overview"
    export, predict = printed("Ship the student")
    said = run(folder, *first[:-1], *shlex.split(export)[3:])  # both experiments in one
    assert "agree, pool %" in said
    assert "answers as before" in said
    command, _, file = predict.partition(" > ")
    (folder / file).write_text(run(folder, *shlex.split(command)))
    rows = list(csv.DictReader((folder / file).open()))
    assert len(rows) == 40
    assert {row["class"] for row in rows} <= set(names)
    assert (folder / "models/exported/mine/kd_ood/0/student.onnx").exists()
    assert run(folder, "git", "status", "--porcelain", "models", "data").strip() == ""
