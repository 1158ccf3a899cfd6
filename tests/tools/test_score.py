"""Students scored on a folder of labelled images: the same numbers as `evaluate` finds in the same images."""

import re

import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, recall_score

from stages import distill, evaluate
from stages.datasets.examples import Examples
from stages.networks import weights
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.support.files import read_json
from stages.tools import score

ROWS = ["kd_ood", "kd_noise"]


def images_of(examples, folder):
    """Each class a sub-folder; of masks, the layout of `masks`."""
    for place, (pixels, label) in enumerate(zip(examples.input, examples.label, strict=True)):
        if label.dim():
            for what, content in (("images", pixels[0]), ("labels", label)):
                path = folder / "test" / what / f"{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content.to(pixels.dtype).numpy()).save(path)
        else:
            path = folder / examples.classes[label] / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0].numpy()).save(path)
    return str(folder)


def predicted(row, seed):
    _, net = weights.load(Places("digits").student(row, seed))
    with torch.no_grad():
        return net.eval()(Examples.load(Places("digits").split("test")).input / 255).argmax(1)


def test_scores_are_those_of_evaluate_in_the_same_images(project, capsys):
    project.change("run", methods=ROWS, seeds=[0])
    project.score("digits", ROWS)
    distill.main("digits", "kd_ood", "1")
    capsys.readouterr()
    score.main("digits", images_of(Examples.load(Places("digits").split("test")), project.folder / "mine"))
    said = capsys.readouterr().out
    found = {line.split()[0]: line.split()[1:] for line in said.splitlines() if re.match(r"(teacher|kd_\w+) ", line)}
    for row in ("teacher", "kd_noise"):
        scores = read_json(Places("digits").scores(row, 0) / "metrics.json")
        assert float(found[row][0]) == pytest.approx(scores["top1"], abs=0.006)
        assert float(found[row][3]) == pytest.approx(scores["agree"], abs=0.006)
    assert found["kd_ood"][2] == "2"
    assert found["kd_noise"][1:3] == ["–", "1"]
    answers = {run: predicted(*run) for run in (("kd_noise", 0), ("kd_ood", 0), ("kd_ood", 1))}
    test = Examples.load(Places("digits").split("test"))
    row, seed = max(answers, key=lambda run: accuracy_score(test.label, answers[run]))
    least = recall_score(test.label, answers[row, seed], average=None).min()
    assert re.search(rf"lowest of {row}, seed {seed}: \w+ \({100 * least:.0f} %\), ", said)


def test_masks_are_scored_where_they_lie_as_the_task_says(project, capsys):
    project.change("run", methods=["kd_ood"], seeds=[0])
    project.teach("digit_scenes")
    test = Examples.load(Places("digit_scenes").split("test"))
    folder = images_of(test, project.folder / "mine")
    (project.folder / "mine" / "classes.txt").write_text("".join(f"{k} {name}\n" for k, name in enumerate(test.classes)))
    distill.main("digit_scenes", "kd_ood", "0")
    with pytest.raises(UserError, match="nothing says how yours should lie"):
        score.main("digit_scenes", folder)
    project.change("task.digit_scenes", in_domain={"source": "masks", "path": "elsewhere", "train": "train", "test": "test"})
    evaluate.main("digit_scenes")
    capsys.readouterr()
    score.main("digit_scenes", folder)
    (line,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("kd_ood"))
    assert float(line[1]) == pytest.approx(
        read_json(Places("digit_scenes").scores("kd_ood", 0) / "metrics.json")["miou"], abs=0.006
    )


@pytest.mark.parametrize(
    ("folder", "message"),
    [("nowhere", "the archive nowhere is missing"), ("two", "there is no class '0' among the labelled images")],
)
def test_a_folder_that_does_not_fit_is_named(project, folder, message):
    project.teach("digits")
    distill.main("digits", "kd_ood", "0")
    for name in ("cat", "dog"):
        (project.folder / "two" / name).mkdir(parents=True)
        Image.new("L", (16, 16), 99).save(project.folder / "two" / name / "1.png")
    with pytest.raises(UserError, match=message):
        score.main("digits", folder)


def test_without_students_there_is_nothing_to_score(project):
    with pytest.raises(UserError, match="there is no student of digits here"):
        score.main("digits", "mine")
