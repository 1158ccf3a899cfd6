"""Students that ship: files that answer as the student, a card whose words hold, and predictions without this repository."""

import csv
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from PIL.ExifTags import Base
from safetensors.torch import load_file

from stages import export, plan
from stages.datasets.examples import Examples
from stages.networks import shipped, weights
from stages.networks.build import build
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.tools import predict

runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")
ALONE = ("onnxruntime", "numpy", "PIL", "flatbuffers", "google", "packaging")  # the last three are of onnxruntime


def shipping(project, task="digits", rows=("kd_ood",), **changes):
    project.change("run", tasks=[task], methods=list(rows))
    project.change("export", tasks=[task])
    if changes:
        project.change(f"task.{task}", **changes)
    plan.main()
    project.score(task, rows)
    export.main(task)
    return Places(task).exported / rows[0] / "0"


def proportion(share, n, z=1.959964):
    """Wilson's interval, by its formula."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return middle - half, middle + half


def snippet(card):
    return re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]


def test_both_files_answer_as_the_student_and_say_what_they_take(project, capsys):
    folder, places = shipping(project), Places("digits")
    _, student = weights.load(places.student("kd_ood", 0))
    images = Examples.load(places.split("test")).input.float() / 255
    with torch.no_grad():
        logits = student.eval()(images)
    session = runtime.InferenceSession(str(folder / "student.onnx"))
    for part in (images[:1], images):  # a batch of any size
        got = session.run(["logits", "probabilities"], {"inputs": part.numpy()})
        torch.testing.assert_close(torch.from_numpy(got[0]), logits[: len(part)], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(got[1]), logits[: len(part)].softmax(1), rtol=1e-4, atol=1e-5)
    answer = torch.export.load(folder / "student.pt2").module()(images)
    torch.testing.assert_close(answer["logits"], logits, rtol=1e-4, atol=1e-5)
    facts = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["classes"] == list("0123456789")
    assert (facts["height"], facts["width"], facts["mode"]) == (16, 16, "L")
    assert shipped.Reader(folder / "student.pt2").facts == facts
    assert "100.00 % of 128 answers as before" in capsys.readouterr().out
    table = list(csv.DictReader((places.exported / "students.csv").open()))
    assert float(table[0]["onnx_kb"]) == pytest.approx((folder / "student.onnx").stat().st_size / 1024, rel=1e-3)
    assert (places.exported / "students.png").stat().st_size > 5000


def test_the_card_says_what_was_measured_and_runs_where_nothing_else_is(project, capsys):
    folder, places = shipping(project), Places("digits")
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "image-classification"
    scores = json.loads((places.scores("kd_ood", 0) / "metrics.json").read_text())
    assert f"| top-1 % | {scores['top1']:.2f} |" in card
    low, high = proportion(scores["top1"] / 100, 128)
    assert f"lies between {100 * low:.1f} and {100 * high:.1f} (95 %)" in card
    assert "smoke scale" in card
    assert "`convnet_32`, 94,186 parameters, trained by stages/train_teacher.py" in card
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "alone"], check=True)
    (inside,) = Path("alone").glob("lib/*/site-packages")
    for name in ALONE:
        home = Path(next(iter(importlib.util.find_spec(name).submodule_search_locations)))
        for path in home.parent.glob(f"{'pillow' if name == 'PIL' else name}*.libs"):
            (inside / path.name).symlink_to(path)
        (inside / name).symlink_to(home)
    pixels = Examples.load(places.split("test")).input[0, 0].numpy()
    plain = Image.fromarray(pixels).resize((48, 40), Image.Resampling.NEAREST)
    clear = Image.merge("LA", (plain, plain.point(lambda value: 255 if value > 60 else 0)))
    deep = Image.fromarray(np.asarray(plain).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[Base.Orientation] = 6
    for name, image in (("plain", plain), ("clear", clear), ("deep", deep)):
        image.save(folder / f"{name}.png", exif=turned if name == "plain" else b"")
        code = snippet(card).replace("image.png", f"{name}.png")
        said = subprocess.run(
            [Path("alone/bin/python").absolute(), "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=True
        )
        lines = [line.split(": ") for line in said.stdout.splitlines()]
        capsys.readouterr()
        predict.main(str(folder / "student.onnx"), str(folder / f"{name}.png"))
        (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
        assert [label for label, _ in lines] == [row[key] for key in row if key.startswith("class")], name
        expected = [float(row[key]) for key in row if key.startswith("confidence")]
        assert [float(value) for _, value in lines] == pytest.approx(expected, abs=1e-3), name


def test_predictions_are_those_of_the_student(project, capsys):
    folder, places = shipping(project), Places("digits")
    test = Examples.load(places.split("test"))
    (project.folder / "images").mkdir()
    for n, image in enumerate(test.input[:70]):
        Image.fromarray(image[0].numpy()).save(project.folder / "images" / f"{n:02}.png")
    (project.folder / "images" / "broken.png").write_bytes(b"no image")
    _, student = weights.load(places.student("kd_ood", 0))
    with torch.no_grad():
        expected = student.eval()(test.input[:70].float() / 255).softmax(1)
    for exported in (folder, folder / "student.onnx"):
        capsys.readouterr()
        predict.main(str(exported), "images")
        told = capsys.readouterr()
        rows = list(csv.DictReader(told.out.splitlines()))
        assert [row["input"] for row in rows] == [f"images/{n:02}.png" for n in range(70)]
        assert [row["class"] for row in rows] == [str(k) for k in expected.argmax(1).tolist()]
        assert [float(row["confidence"]) for row in rows] == pytest.approx(expected.amax(1).tolist(), abs=1e-3)
        assert list(rows[0])[-1] == "confidence5"
        assert "skipped images/broken.png" in told.err


def test_a_student_that_segments_ships_with_masks(project, capsys):
    """Trained on crops of the pool, compared and shipped for whole images that are not square."""
    torch.save(build("unet_8", 4, (1, 32, 48)).state_dict(), "teacher.pt")
    teacher = {"network": "unet_8", "weights": {"path": "teacher.pt", "mean": [0.5], "std": [0.5]}}
    form = {"size": [32, 48], "channels": 1, "crop": 24}
    changes = {"image": form, "in_domain": None, "classes": ["none", "a", "b", "c"], "teacher": teacher}
    folder, places = shipping(project, "digit_scenes", **changes), Places("digit_scenes")
    test = Examples.load(places.split("test"))
    assert test.shape == (1, 32, 48)
    Image.fromarray(test.input[0, 0].numpy()).save("scene.png")
    capsys.readouterr()
    predict.main(str(folder), "scene.png", "--masks", "masks")
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    _, student = weights.load(places.student("kd_ood", 0))
    with torch.no_grad():
        mask = student.eval()(test.input[:1].float() / 255).argmax(1)[0]
    assert np.array_equal(np.asarray(Image.open("masks/scene.png")), mask.numpy())
    for side in "ab":
        Path(side).mkdir()
        Image.fromarray(test.input[0, 0].numpy()).save(Path(side, "scene.png"))
    predict.main(str(folder), "a", "b", "--masks", "masks")
    assert Path("masks/a/scene.png").exists()
    assert Path("masks/b/scene.png").exists()
    capsys.readouterr()
    names = json.loads((places.teacher / "card.json").read_text())["classes"]
    counts = torch.bincount(mask.flatten(), minlength=len(names))
    assert row["class"] == names[int(counts.argmax())]
    assert float(row["area"]) == pytest.approx(counts.max().item() / mask.numel(), abs=1e-3)
    card = (folder / "README.md").read_text()
    assert "image-segmentation" in card
    Image.fromarray(test.input[0, 0].numpy()).save(folder / "image.png")
    done = subprocess.run([sys.executable, "-c", snippet(card)], cwd=folder, capture_output=True, text=True, check=True)
    assert row["class"] in done.stdout


def test_a_grey_student_of_torchvision_has_the_names_of_its_library(tmp_path):
    from torchvision import models

    blueprint = weights.Blueprint("torchvision.mobilenet_v3_small", tuple("abc"), (1, 32, 32), [0.4], [0.2])
    net, images = blueprint.build().eval(), torch.rand(2, 1, 32, 32)
    weights.save(tmp_path, blueprint, net, images[:1], {})
    own = models.mobilenet_v3_small(num_classes=3)
    own.load_state_dict(load_file(tmp_path / weights.WEIGHTS))
    with torch.no_grad():
        theirs = own.eval()(((images - 0.4) / 0.2).expand(-1, 3, -1, -1))
        torch.testing.assert_close(net(images), theirs)


def test_what_was_measured_without_labels_is_called_so(project):
    torch.save(build("convnet_32", 10, (1, 16, 16)).state_dict(), "teacher.pt")
    given = {"path": "teacher.pt", "mean": [0.5], "std": [0.5]}
    folder = shipping(project, in_domain=None, classes=10, teacher={"network": "convnet_32", "weights": given})
    card = (folder / "README.md").read_text()
    assert "| agree, pool % |" in card
    assert "Nobody has measured its accuracy" in card
    digest = hashlib.sha256(Path("teacher.pt").read_bytes()).hexdigest()
    assert digest in card
    assert "top-1" not in card
    assert "metrics" not in yaml.safe_load(card.split("---")[1])


def test_what_cannot_be_exported_or_read_is_named(project, capsys):
    folder = shipping(project, rows=["kd_ood", "augkd"])  # the second needs what the task has not
    assert "augkd is left out: it needs labelled examples" in capsys.readouterr().out
    for key, value in (("methods", "mosaickd"), ("seeds", 7)):
        project.change("export", **{key: [value]})
        with pytest.raises(UserError, match=rf"export\.{key}: '{value}' is not among run\.{key}; name it there too, or take"):
            plan.main()
        project.change("export", **{key: []})
    project.change("export", methods=["augkd"])
    plan.main()
    with pytest.raises(UserError, match="none of these rows runs on the task"):
        export.main("digits")
    assert (folder / "student.onnx").exists()  # what was there stays
    with pytest.raises(UserError, match=r"absent\.png is missing; give images"):
        predict.main(str(folder), "absent.png")
    with pytest.raises(UserError, match=r"absent\.onnx is missing; stage `export` writes it"):
        predict.main("absent.onnx", "x.png")
    Path("other.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"other.onnx cannot be read here .*; update onnxruntime"):
        predict.main("other.onnx", "x.png")
    with pytest.raises(UserError, match="gives one class for an input, so there are no masks"):
        predict.main(str(folder), "x.png", "--masks", "masks")
    with pytest.raises(UserError, match=r"models/exported/digits has no student.pt2; take models/exported/digits/kd_ood/0"):
        predict.main("models/exported/digits", "x.png")


def test_an_opset_that_a_runtime_lacks_is_named(project):
    onnx = pytest.importorskip("onnx")
    path = shipping(project) / "student.onnx"
    model = onnx.load(path)
    model.opset_import[0].version = 999
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"student.onnx cannot be read here .*999.*; update onnxruntime"):
        shipped.Reader(path)
