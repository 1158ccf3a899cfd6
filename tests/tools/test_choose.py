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


@pytest.mark.parametrize(
    ("task", "kind", "can", "rows"),
    [
        ("digits", IMAGES, {"asked", "gradient", "batch_norm", "features"}, ["tessera", "fast", "kd_ood_strong"]),
        ("digits", IMAGES, {"asked", "gradient"}, ["kd_ood_strong", "mosaickd", "zskt"]),
        ("digits", IMAGES, {"asked"}, ["kd_ood_strong", "tessera_black_box", "kd_ood"]),
        ("digits", IMAGES, set(), ["kd_ood"]),
        ("topics", TEXTS, {"asked", "gradient", "embeddings"}, ["kd_ood", "asdfd"]),
    ],
)
def test_a_teacher_allows_some_rows(project, task, kind, can, rows):
    assert choose.allowed(params.load(), task, kind, frozenset(can)) == rows


def test_the_best_is_named_with_what_it_cost_and_how_to_ship_it(project):
    """The scores are set by hand, so that what is said of them is known."""
    torch.manual_seed(0)
    torch.save(build("convnet_32", 10, (1, 16, 16)).state_dict(), "teacher.pt")
    given = {"network": "convnet_32", "weights": {"path": "teacher.pt", "mean": [0.5], "std": [0.5]}}
    rows = ["kd_ood", "kd_ood_bare", "kd_in_domain"]
    project.change("run", methods=rows)
    project.change("task.digits", in_domain=None, classes=10, teacher=given)
    plan.main()
    project.score("digits", rows)
    places = Places("digits")
    for row, value in (("kd_ood", 61.0), ("kd_ood_bare", 61.5)):
        path = places.scores(row, 0) / "metrics.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "agree_fitted": value}))
    _, kind, teacher = open_teacher(places, params.load().task("digits"), start("fp32"))
    lines = choose.verdict("digits", rows, kind, teacher)
    assert "which is no accuracy" in lines[0]
    assert lines[1].startswith("  kd_ood_bare: 61.5, ")
    assert lines[2].startswith("  kd_ood: 61.0, ")
    assert lines[3] == "kd_ood_bare is not told apart from kd_ood, by one seed; take any of them"
    assert lines[4].endswith("-S 'export.methods=[kd_ood_bare]' overview export")
    with pytest.raises(UserError, match="none of kd_in_domain runs on digits"):
        choose.verdict("digits", ["kd_in_domain"], kind, teacher)
