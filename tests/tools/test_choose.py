"""Which rows a teacher allows, and what is said of the students that they made."""

import json

import pytest
import torch

from stages import plan
from stages.engine.runtime import start
from stages.jobs.setup import open_teacher
from stages.networks.build import build
from stages.settings import params
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.tools import choose

IMAGES, TEXTS = frozenset({"images", "one_label"}), frozenset({"texts", "one_label"})
ROWS = ["kd_ood", "kd_ood_bare", "augkd"]  # the last needs what the task has not


@pytest.mark.parametrize(
    ("task", "kind", "can", "rows"),
    [
        ("digits", IMAGES, {"asked", "gradient", "batch_norm", "features"}, ["tessera", "fast", "kd_ood_strong"]),
        ("digits", IMAGES, {"asked", "gradient"}, ["kd_ood_strong", "mosaickd", "tessera_black_box"]),
        ("digits", IMAGES, {"asked"}, ["kd_ood_strong", "tessera_black_box", "kd_ood"]),
        ("digits", IMAGES, set(), ["kd_ood"]),
        ("topics", TEXTS, {"asked", "gradient", "embeddings"}, ["kd_ood", "asdfd"]),
    ],
)
def test_a_teacher_allows_some_rows(project, task, kind, can, rows):
    assert choose.allowed(params.load(), task, kind, frozenset(can)) == rows


@pytest.fixture
def verdict(project):
    """What is said where a task has these images of its domain, by a teacher that its user brought."""

    def found(in_domain, rows, network="convnet_32", set_by_hand=None):
        torch.manual_seed(0)
        torch.save(build(network, 10, (1, 16, 16)).state_dict(), "teacher.pt")
        teacher = {"network": network, "weights": {"path": "teacher.pt", "mean": [0.5], "std": [0.5]}}
        project.change("run", methods=ROWS)
        project.change("task.digits", in_domain=in_domain, classes=10, teacher=teacher)
        plan.main()
        project.score("digits", ROWS)
        places, task = Places("digits"), params.load().task("digits")
        for row, value in (set_by_hand or {}).items():
            path = places.scores(row, 0) / "metrics.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "agree_inverted": value}))
        _, kind, net = open_teacher(places, task, start("fp32"))
        return choose.verdict(task, places, rows, kind, net)

    return found


def test_the_best_is_named_with_what_it_cost_and_how_to_ship_it(verdict):
    """The scores are set by hand, so that what is said of them is known. Of 512 images 0.5 points tell nothing."""
    lines = verdict(None, ROWS, set_by_hand={"kd_ood": 61.0, "kd_ood_bare": 61.5})
    assert lines[0].startswith("digits: agreement with the teacher on inverted images, %")
    assert "of 512 images that were inverted from the teacher" in lines[0]
    assert lines[0].endswith("this is no accuracy")
    assert lines[1].startswith("  kd_ood_bare: 61.5, ")
    assert lines[2].startswith("  kd_ood: 61.0, ")
    assert lines[3].startswith("  augkd: n/a, it needs ")
    assert lines[4].startswith("kd_ood_bare is not told apart from kd_ood")
    assert lines[5].endswith("-S 'export.methods=[kd_ood_bare]' overview export")


@pytest.mark.parametrize(
    ("in_domain", "network", "score", "guessed"),
    [
        ({"source": "digits", "labels": "none"}, "convnet_32", "agree", False),
        (None, "lenet_32", "agree_pool", True),
    ],
)
def test_without_inverted_images_the_learning_curve_says_it_and_no_test_split(verdict, in_domain, network, score, guessed):
    lines = verdict(in_domain, ["kd_ood"], network)
    last = Places("digits").curve("kd_ood", 0).read_text().splitlines()
    value = dict(zip(last[0].split(","), last[-1].split(","), strict=True))[f"val_{score}"]
    assert lines[1].startswith(f"  kd_ood: {float(value):.1f}, ")
    assert any("Label some examples" in line for line in lines) == guessed
    assert "no accuracy" in lines[0]


def test_where_nothing_ran_the_reason_is_said(verdict):
    with pytest.raises(UserError, match="none of augkd runs on digits: it needs labelled examples"):
        verdict(None, ["augkd"])
