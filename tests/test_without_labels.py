"""Nobody has a labelled image, or an image of the domain at all: students are compared with the teacher, and called so."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import kl_div

from stages import curate, distill, evaluate, overview, plan, prepare, report, train_teacher
from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm
from stages.engine.runtime import start
from stages.engine.teacher import Teacher
from stages.jobs.setup import open_teacher
from stages.kinds.classification import Kind
from stages.networks import weights
from stages.networks.build import build
from stages.settings import params
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.tools import choose
from tests.clones import REPOSITORY
from tests.tables import rows_of

ROWS = ["supervised", "kd_in_domain", "kd_ood"]
STATISTICS = {"mean": [0.5], "std": [0.5]}


@pytest.fixture
def brought(project):
    """The task digits with a teacher that its user brought, of ten classes."""
    torch.manual_seed(0)
    torch.save(build("convnet_32", 10, (1, 16, 16)).state_dict(), "teacher.pt")
    project.change("run", methods=ROWS)
    project.change("task.digits", teacher={"network": "convnet_32", "weights": {"path": "teacher.pt", **STATISTICS}})
    return project


def through(task="digits", rows=ROWS):
    plan.main()
    for stage in (prepare, train_teacher, curate):
        stage.main(task)
    for row in rows:
        distill.main(task, row, "0")
    for stage in (evaluate, report):
        stage.main(task)
    overview.main()
    return json.loads(Places(task).report("smoke").read_text())


def test_a_row_that_learned_from_images_such_as_judge_is_not_compared(brought):
    project, rows = brought, ["kd_ood", "deepinversion"]
    project.change("run", methods=rows)
    project.change("task.digits", in_domain=None, classes=10)
    through(rows=rows)
    known = {row: json.loads((Places("digits").scores(row, 0) / "metrics.json").read_text()) for row in rows}
    assert "agree_inverted" in known["kd_ood"]
    assert "agree_inverted" not in known["deepinversion"]
    _, kind, net = open_teacher(Places("digits"), params.load().task("digits"), start("fp32"))
    lines = choose.verdict(params.load().task("digits"), Places("digits"), rows, kind, net)
    assert "  deepinversion: n/a, it learned from images such as those that compare students" in lines


def test_images_that_compare_students_are_made_once(brought, capsys):
    """And again where they are damaged, or of another teacher."""
    brought.change("run", methods=["kd_ood"])
    brought.change("task.digits", in_domain=None, classes=10)
    through(rows=["kd_ood"])
    (file,) = Path(".cache/inverted/digits").iterdir()
    first = file.read_bytes()

    def made():
        evaluate.main("digits")
        return "invert digits" in capsys.readouterr().err

    capsys.readouterr()
    assert not made()
    file.write_bytes(first[:-4])
    assert made()
    assert file.read_bytes() == first
    torch.manual_seed(1)
    torch.save(build("convnet_32", 10, (1, 16, 16)).state_dict(), "teacher.pt")
    through(rows=["kd_ood"])
    (other,) = Path(".cache/inverted/digits").iterdir()
    assert other.name != file.name


def why(row):
    return json.loads((Places("digits").student(row, 0) / "run.json").read_text()).get("why_not")


def scores(row, task="digits"):
    return json.loads((Places(task).scores(row, 0) / "metrics.json").read_text())


def test_students_are_compared_with_the_teacher_on_what_is_held_out_of_the_pool(brought):
    brought.change("task.digits", in_domain=None, classes=list("abcdefghij"))
    known, places = through(), Places("digits")
    held = json.loads((places.data / "ood/held_out.json").read_text())  # by their numbers, for these are no files
    pool, test = Examples.load(places.pool / "pool.safetensors"), Examples.load(places.split("test"))
    assert len(Examples.load(places.split("train"))) == 0
    assert held["test"] == test.index.tolist()
    assert len({*held["val"], *held["test"], *pool.index.tolist()}) == len(held["val"]) + len(held["test"]) + len(pool)
    assert [why(row) is None for row in ROWS] == [False, False, True]
    assert "in-domain examples, which this task has not" in why("kd_in_domain")
    _, teacher = weights.load(places.teacher)
    _, student = weights.load(places.student("kd_ood", 0))
    images = test.input.float() / 255
    with torch.no_grad():
        theirs, ours = teacher.eval()(images), student.eval()(images)
    found = scores("kd_ood")
    assert found["agree_pool"] == pytest.approx(100 * (theirs.argmax(1) == ours.argmax(1)).double().mean().item(), abs=0.01)
    expected = kl_div(ours.log_softmax(1), theirs.softmax(1), reduction="batchmean").item()
    assert found["kl_pool"] == pytest.approx(expected, rel=1e-3)
    assert {"top1", "agree", "fd"}.isdisjoint(found)
    assert scores("teacher")["agree_pool"] == scores("teacher")["agree_inverted"] == 100
    assert 0 <= found["agree_inverted"] < 100
    assert known["headline"] == "agree_inverted"
    assert "This is no accuracy." in (brought.folder / "results/smoke/table.md").read_text()
    assert "pool" not in known  # its distance from a domain that nobody has
    curve = pd.read_csv(places.curve("kd_ood", 0))
    assert curve.columns[-1] == "val_agree_pool"
    assert not any("top1" in name for name in curve)
    predictions = pd.read_csv(places.scores("kd_ood", 0) / "predictions.csv")
    assert list(predictions) == ["teacher", "predicted", "confidence"]
    assert {*predictions["teacher"]} <= {*"abcdefghij"}
    rows = rows_of((brought.folder / "results/smoke/table.md").read_text())
    assert rows["kd_ood"]["agree, pool %"] == f"{found['agree_pool']:.2f}"
    assert {"top-1 %", "agree %", "gain"}.isdisjoint(rows["kd_ood"])
    assert json.loads((brought.folder / "results/smoke/summary.json").read_text())["digits"]["kd_ood"] == pytest.approx(
        found["agree_inverted"], abs=0.01
    )


def test_images_of_the_domain_without_labels_measure_and_bound(brought):
    brought.change("task.digits", in_domain={"source": "digits", "labels": "none"}, classes=10)
    known = through()
    assert [why(row) is None for row in ROWS] == [False, True, True]
    assert "labels of in-domain examples" in why("supervised")
    assert known["headline"] == "agree"
    assert known["pool"]["images"] > 0
    assert "label" not in Examples.load(Places("digits").split("test")).columns
    assert {"agree", "kl"} <= scores("kd_in_domain").keys()
    assert {"top1", "agree_pool"}.isdisjoint(scores("kd_in_domain"))


def test_what_was_asked_once_is_compared_where_there_is_an_answer(brought):
    """Held out images, too, are images of the pool."""
    generator = torch.Generator().manual_seed(0)
    (brought.folder / "others").mkdir()
    with open("answers.csv", "w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["file", "cat", "dog"])
        for n in range(60):
            pixels = torch.randint(0, 256, (16, 16), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(brought.folder / "others" / f"{n}.png")
            if n % 3:
                writer.writerow([f"others/{n}.png", *torch.randn(2, generator=generator).tolist()])
    ood = {"source": "folder", "path": "others"}
    brought.change("task.digits", in_domain=None, ood=ood, classes=["cat", "dog"], teacher={"answers": "answers.csv"})
    brought.change("task.digits", split={"test": 0.4, "val": 0.3})
    brought.change("run", methods=["kd_ood"])
    known = through(rows=["kd_ood"])
    test = Examples.load(Places("digits").split("test"))
    answered = [name for name in test.files if int(name.rpartition("/")[2].partition(".")[0]) % 3]
    assert 0 < len(answered) < len(test)
    assert len(pd.read_csv(Places("digits").scores("kd_ood", 0) / "predictions.csv")) == len(answered)
    assert known["rows"]["teacher"]["seeds"]["0"]["agree_pool"] == 100


def test_what_was_asked_once_is_looked_for_among_test_images(brought):
    """By its place among all images: the first has no answer, and the last is one of the test split."""
    plan.main()
    prepare.main("digits")
    (brought.folder / "others").mkdir()
    twin = Examples.load(Places("digits").split("test")).input[0, 0]
    generator = torch.Generator().manual_seed(0)
    names = [f"{n:02d}.png" for n in range(40)]
    for name in names:
        pixels = torch.randint(0, 256, (16, 16), generator=generator, dtype=torch.uint8) if name != names[-1] else twin
        Image.fromarray(pixels.numpy()).save(brought.folder / "others" / name)
    with open("answers.csv", "w", newline="") as table:
        csv.writer(table).writerows([["file", "label"], *([name, "1"] for name in names[1:])])
    brought.change("task.digits", ood={"source": "folder", "path": "others"}, teacher={"answers": "answers.csv"})
    brought.change("run", methods=["kd_ood"])
    through(rows=["kd_ood"])
    assert json.loads((Places("digits").pool / "summary.json").read_text())["near_duplicates_of_test"] == 1
    index = pd.read_csv(Places("digits").pool / "index.csv")
    assert "others/39.png" in "".join(index["file"])


def test_a_task_of_which_nothing_ran_has_its_figures_of_the_pool(brought):
    """A teacher that was not asked about the test images, and a row that cannot run."""
    (brought.folder / "others").mkdir()
    generator = torch.Generator().manual_seed(0)
    for n in range(20):
        pixels = torch.randint(0, 256, (16, 16), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(brought.folder / "others" / f"{n:02d}.png")
    with open("answers.csv", "w", newline="") as table:
        csv.writer(table).writerows([["file", "label"], *([f"{n:02d}.png", str(n % 10)] for n in range(20))])
    brought.change("task.digits", ood={"source": "folder", "path": "others"}, teacher={"answers": "answers.csv"})
    brought.change("run", methods=["fast"])
    known = through(rows=["fast"])
    assert "why_not" in known["rows"]["fast"]
    assert {path.stem for path in Places("digits").figures.glob("*.png")} == {"pool-scores", "pool-classes", "pool-extremes"}


def test_pixels_are_compared_too(project):
    net = build("unet_16", 4, (1, 32, 32))
    torch.save(net.state_dict(), "teacher.pt")
    project.change("run", tasks=["digit_scenes"], methods=["kd_ood"])
    project.change(
        "task.digit_scenes",
        in_domain=None,
        classes=["none", "a", "b", "c"],
        teacher={"network": "unet_16", "weights": {"path": "teacher.pt", **STATISTICS}},
    )
    known = through("digit_scenes", ["kd_ood"])
    assert known["headline"] == "agree_pool"
    assert {"agree_pool", "kl_pool"} <= scores("kd_ood", "digit_scenes").keys()
    assert {"miou", "pixels"}.isdisjoint(scores("kd_ood", "digit_scenes"))


def test_several_teachers_name_the_classes(project):
    for name, network in (("a", "convnet_32"), ("b", "lenet_32")):
        torch.save(build(network, 5, (1, 16, 16)).state_dict(), f"{name}.pt")
    of = {"weights": {"path": "a.pt", **STATISTICS}, "network": "convnet_32", "classes": list("abcde")}
    other = {"weights": {"path": "b.pt", **STATISTICS}, "network": "lenet_32", "classes": list("fghij")}
    project.change("task.digits-halves", in_domain=None, teachers=[of, other])
    project.change("run", tasks=["digits-halves"], methods=["kd_ood"])
    assert through("digits-halves", ["kd_ood"])["headline"] == "agree_pool"
    card = json.loads((Places("digits-halves").student("kd_ood", 0) / "card.json").read_text())
    assert card["classes"] == list("abcdefghij")


def test_what_stands_among_held_out_images_too_is_no_pool(brought):
    """A folder with every image twice: no held out image is one that students learn from."""
    brought.change(
        "task.digits",
        in_domain=None,
        classes=10,
        ood={"source": "mixture", "parts": [{"source": "photographs", "count": 60}, {"source": "photographs", "count": 60}]},
    )
    prepare.main("digits")
    ood, held = (Examples.load(Places("digits").split(part)).input.flatten(1) for part in ("ood", "test"))
    assert len(held) == 12
    assert not (ood[:, None] == held[None]).all(2).any()


@torch.no_grad()
def test_a_teacher_whose_answers_say_nothing_is_pointed_out(brought):
    """One class for most of the pool, and noise that is as clear to it."""
    kind = Kind(ImageForm(size=16, channels=1), ("cat", "dog", "cow"))
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    nn.init.zeros_(net[1].weight)  # it always says the same
    sure = net[1].bias.softmax(0).max().item()
    found = curate.doubts(kind, Teacher(net), {"histogram_after": [90, 6, 4], "confidence": sure})
    assert "calls 90 % of the pool 'cat'" in found[0]
    assert "as sure of noise" in found[1]
    even = {"histogram_after": [40, 35, 25], "confidence": 0.99, "effective_classes_after": 2.9}
    assert curate.doubts(kind, Teacher(net), even) == []
    (few,) = curate.doubts(kind, Teacher(net), even | {"histogram_after": [70, 30, 0], "effective_classes_after": 1.4})
    assert "1.4 effective classes of 3" in few


@pytest.mark.learned
def test_a_teacher_that_was_made_to_fail_outside_its_domain_is_pointed_out(project, capsys):
    """Non-transferable: right on digits, and of one class elsewhere (Hong et al., ICML 2025, meet such)."""
    prepare.main("digits")
    digits, others = (Examples.load(Places("digits").split(part)) for part in ("train", "ood"))
    torch.manual_seed(0)
    net = build("convnet_32", 10, (1, 16, 16))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(150):
        mine, theirs = (torch.randint(len(one), (64,)) for one in (digits, others))
        images = (torch.cat([digits.input[mine], others.input[theirs]]).float() / 255 - 0.5) / 0.5
        labels = torch.cat([digits.label[mine], torch.full((64,), 7)])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    torch.save(net.state_dict(), "teacher.pt")
    project.change("task.digits", teacher={"network": "convnet_32", "weights": {"path": "teacher.pt", **STATISTICS}})
    train_teacher.main("digits")
    curate.main("digits")
    said = re.search(r"look here: the teacher calls (\d+) % of the pool '7'.*so may `fast`", capsys.readouterr().out)
    assert int(said[1]) > 90


BAD = [
    ({"in_domain": {"source": "digits", "labels": "yes"}}, "`labels` is `none`, or left out"),
    ({"classes": ["0", "one"]}, "there is no class 'one' among the labelled images"),
    ({"in_domain": None, "classes": ["a", False]}, "`False` is no name: YAML reads no, yes, on, off .* put it in quotes"),
    ({"in_domain": None}, "classes: nothing says how the teacher's classes are called"),
    ({"in_domain": None, "classes": 3}, "answers for 10 classes, and the task has 3"),
    ({"in_domain": None, "classes": 1}, "`classes` is two or more"),
    ({"in_domain": None, "classes": 10, "ood": {"source": "photographs", "count": 2}}, "ood: 2 examples cannot be split"),
    ({"in_domain": None, "classes": "absent.txt"}, "the list of classes absent.txt is missing"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_does_not_fit_is_named(brought, changes, message):
    brought.change("task.digits", **changes)
    with pytest.raises(UserError, match=message):
        brought.teach("digits")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("digits", "a teacher that is trained here learns from labels"),
        ("topics", "a teacher that is trained here learns from labels"),
        ("digits-shift", "a teacher that is trained here learns from labels"),
    ],
)
def test_what_needs_labels_says_so_at_once(project, task, message):
    project.change("run", tasks=[task])
    project.change(f"task.{task}", in_domain=None)
    with pytest.raises(UserError, match=message):
        plan.main()


def test_three_labelled_images_of_a_class_are_enough_for_every_row_of_the_default_list(brought):
    rows = [*yaml.safe_load((REPOSITORY / "params.yaml").read_text())["run"]["methods"], "kd_ood_strong", "tessera"]
    digits = load_digits()
    for label in range(10):
        folder = brought.folder / "labelled" / str(label)
        folder.mkdir(parents=True)
        for n, image in enumerate(digits.images[digits.target == label][:3]):
            Image.fromarray((image * 15).astype("uint8")).save(folder / f"{n}.png")
    brought.change("run", methods=rows)
    brought.change("task.digits", in_domain={"source": "folder", "path": "labelled"})
    prepare.main("digits")
    val = Examples.load(Places("digits").split("val"))
    inputs, net = (val.input.float() / 255 - 0.5) / 0.5, build("convnet_32", 10, (1, 16, 16))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(60):  # a teacher that is right on the few that check it
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs), val.label).backward()
        optimizer.step()
    torch.save(net.state_dict(), "teacher.pt")
    known = through(rows=rows)
    assert len(val) == 10
    assert all("seeds" in known["rows"][row] for row in rows)


def test_names_that_are_missing_are_asked_for_before_anything_is_read(brought):
    """In the task's own file, where they belong."""
    brought.change("task.digits", in_domain=None)
    with pytest.raises(UserError, match=r"^tasks/digits.yaml: digits.classes: nothing says how"):
        plan.main()


def test_classes_beside_labels_say_their_order(brought):
    """Of any source; others are left out."""
    brought.change("task.digits", classes=["7", "3", "5"])
    prepare.main("digits")
    train = Examples.load(Places("digits").split("train"))
    assert train.classes == ("7", "3", "5")
    assert sorted(train.label.unique().tolist()) == [0, 1, 2]


def test_a_name_that_stands_twice_is_numbered(brought):
    brought.change("task.digits", in_domain=None, classes=["crane", "dog", "crane", *"abcdefg"])
    prepare.main("digits")
    assert Examples.load(Places("digits").split("val")).classes[:3] == ("crane", "dog", "crane 2")


def test_answers_to_no_image_that_measures_are_named(brought):
    """A stock of a few answers; and images of the domain beside answers to the pool alone."""
    Image.fromarray(torch.zeros(16, 16, dtype=torch.uint8).numpy()).save(brought.folder / "x.png")
    (brought.folder / "answers.csv").write_text("file,cat,dog\nelsewhere/x.png,1,2\n")
    brought.change("task.digits", in_domain=None, classes=["cat", "dog"], teacher={"answers": "answers.csv"})
    prepare.main("digits")
    with pytest.raises(UserError, match="was asked once, and of none of the 6 images that measure students"):
        train_teacher.main("digits")


def test_rows_that_another_score_compared_are_left_out(brought, capsys):
    """A task turned from labels to none: its table has one score."""
    brought.change("run", methods=["kd_noise"])
    brought.change("task.digits", teacher=brought.section("digits")["teacher"])
    path = Places("digits").report("smoke")
    path.parent.mkdir(parents=True)
    old = {"upper_bound": False, "seeds": {"0": {"top1": 50.0, "made": {"identity": {}}}}}
    path.write_text(json.dumps({"kind": "classification", "headline": "top1", "rows": {"kd_ood": old}}))
    brought.change("task.digits", in_domain=None, classes=10)
    assert set(through(rows=["kd_noise"])["rows"]) == {"teacher", "kd_noise"}
    assert "earlier rows were compared by top1, not by agree_inverted" in capsys.readouterr().out
