"""Teachers of other makes through all stages: programs, and answers that were given once."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from stages import curate, distill, overview, plan, prepare, report, train_teacher
from stages.datasets.examples import Examples
from stages.datasets.images import to_pixels, to_unit
from stages.networks import weights
from stages.settings.paths import Places
from stages.tools import score
from tests.tables import rows_of

ROWS = ["kd_ood", "balanced", "kd_ood_strong", "dafl", "fitnet", "mosaickd"]
OTHERS = 160


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scanned digits as files, 30 of each, and other images: the same turned upside down."""
    root = tmp_path_factory.mktemp("images")
    digits = load_digits()
    for n, (image, label) in enumerate(zip(digits.images[:800], digits.target, strict=False)):
        pixels = Image.fromarray((image * 16).clip(0, 255).astype(np.uint8))
        place = root / "labelled" / str(label) if n < 400 else root / "others"
        place.mkdir(parents=True, exist_ok=True)
        (pixels if n < 400 else pixels.rotate(180)).save(place / f"{n}.png")
    return root


@pytest.fixture
def taught(project, folder):
    """A project whose teacher was trained on these digits."""
    project.change("run", tasks=["digits"], methods=ROWS)
    ood = {"source": "folder", "path": str(folder / "others")}
    project.change(
        "task.digits", in_domain={"source": "folder", "path": str(folder / "labelled")}, ood=ood, curate={"keep": "all"}
    )
    project.change("task.digits.teacher.train", epochs=30)
    project.change("run", scale="full")
    prepare.main("digits")
    train_teacher.main("digits")
    project.change("run", scale="smoke")
    return project, weights.load(Places("digits").teacher)[1].eval()


def through(project, teacher):
    """All stages with this teacher; the table's rows."""
    project.change("task.digits", teacher=teacher)
    plan.main()
    project.score("digits", ROWS)
    report.main("digits")
    overview.main()
    return rows_of((project.folder / "results/smoke/table.md").read_text())


def why(row):
    path = Places("digits").student(row, 0) / "run.json"
    return json.loads(path.read_text()).get("why_not")


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("make", ["exported", "torchscript"])
def test_a_program_goes_through_all_stages(taught, tmp_path, make):
    project, net = taught
    example, file = torch.zeros(2, 1, 16, 16), str(tmp_path / "teacher.pt2")
    if make == "exported":
        torch.export.save(torch.export.export(net, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},)), file)
    else:
        torch.jit.trace(net, example).save(file)
    rows = through(project, {make: file})
    assert set(rows) == {"teacher", *ROWS}
    assert why("mosaickd") is None
    assert "whose last layer is known" in why("dafl")
    known = json.loads((Places("digits").teacher / "card.json").read_text())
    assert known["val_top1"] > 80


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_teacher_can_only_be_asked(taught, tmp_path):
    pytest.importorskip("onnxruntime")
    project, net = taught
    torch.onnx.export(net, (torch.zeros(8, 1, 16, 16),), dynamo=True, verbose=False).save(str(tmp_path / "teacher.onnx"))
    through(project, {"onnx": str(tmp_path / "teacher.onnx")})
    assert why("kd_ood_strong") is None
    assert "whose logits have gradients" in why("mosaickd")


def test_answers_that_were_given_once_teach_what_asks_no_more(taught, folder, tmp_path, capsys):
    project, net = taught
    files = sorted((folder / "others").iterdir())[:OTHERS]
    images = torch.stack([to_unit(to_pixels(Image.open(file), (1, 16, 16))) for file in files])
    with torch.no_grad():
        logits = net(images)
    with (tmp_path / "answers.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["file", *map(str, range(10))])
        writer.writerows([file.name, *row] for file, row in zip(files, logits.tolist(), strict=True))
    rows = through(project, {"answers": str(tmp_path / "answers.csv")})
    said = capsys.readouterr().out
    known = int(re.search(r"there is an answer to (\d+) of 128 OOD images", said)[1])  # smoke scale draws these
    assert 0 < known < 128
    assert [why(row) is None for row in ROWS] == [True, True, False, False, False, False]
    assert "answers to the pool's images alone" in why("kd_ood_strong")
    assert rows["teacher"]["top-1 %"] == "n/a"
    pool = Examples.load(Places("digits").pool / "pool.safetensors")
    order = {file.name: place for place, file in enumerate(files)}
    assert len(pool) == known
    expected = logits[[order[name.rpartition("/")[2]] for name in pool.files]]
    torch.testing.assert_close(pool.columns["logits"], expected)
    capsys.readouterr()
    score.main("digits", str(folder / "labelled"))
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert "teacher" not in lines
    assert 0 <= float(lines["kd_ood"][0]) <= 100
    assert lines["kd_ood"][-1] == "–"  # nobody knows what the teacher would say


def test_a_teacher_of_224_pixels_teaches_a_small_student(project, folder, capsys):
    """A network of ImageNet's size, imported, at its own resolution, and a student at 64 pixels."""
    from torchvision import models

    torch.manual_seed(0)
    net = models.mobilenet_v3_large(num_classes=10).eval()
    weights = {"path": "teacher.pt", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    project.change("run", tasks=["digits"], methods=["kd_ood_bare"])
    project.change(
        "task.digits",
        image={"size": 64, "channels": 3},
        in_domain={"source": "folder", "path": str(folder / "labelled")},
        ood={"source": "some", "count": 16, "images": {"source": "folder", "path": str(folder / "others")}},
        teacher={"network": "torchvision.mobilenet_v3_large", "weights": weights, "resize": 224},
        distill={**project.section("digits")["distill"], "student": "torchvision.mobilenet_v3_small"},
    )
    prepare.main("digits")
    images = Examples.load(Places("digits").split("val"))
    images = images.subset(torch.arange(16))  # the import tries them at other sizes too
    with torch.no_grad():  # an untrained network says one class: it is made to say several, and what it says is the truth
        large = torch.nn.functional.interpolate(to_unit(images.input), (224, 224), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(weights[key]).view(-1, 1, 1) for key in ("mean", "std"))
        logits = net((large - mean) / std)
        net.classifier[-1].bias -= logits.mean(0)
    torch.save(net.state_dict(), "teacher.pt")
    images.having(label=(logits - logits.mean(0)).argmax(1)).save(Places("digits").split("val"))
    plan.main()
    (macs,) = re.findall(r"torchvision\.mobilenet_v3_large [\d,]+ parameters, ([\d,]+) MACs", capsys.readouterr().out)
    assert int(macs.replace(",", "")) == pytest.approx(
        217e6, rel=0.02
    )  # at 224 x 224, as its paper counts them (219 with 1000 classes)
    train_teacher.main("digits")
    assert json.loads((Places("digits").teacher / "card.json").read_text())["val_top1"] > 95
    curate.main("digits")
    distill.main("digits", "kd_ood_bare", "0")
    assert why("kd_ood_bare") is None
