"""How far pools are, and which tasks stand beside each other in the figure."""

import matplotlib.image
import pytest
import torch

from stages.datasets.examples import pack
from stages.reporting.figures import distance
from stages.reporting.pool_distance import pool_distance
from stages.settings import paths
from tests.small import images, kind, setting

METHODS = ("kd_ood", "fast", "cmi")
DISTILL = {"student": {"network": "convnet_4"}, "student_steps": 20}


def report(nll, fd=None, distill=DISTILL, **rows):
    made = {"identity": {}, "scale": "full", "key": f"{nll} {fd}"}  # of a teacher that was trained for each task
    pool = {"images": 64} if fd is None else {"images": 64, "fd": fd}
    variants = {row: {"of": {"of": row.split("_")[0]}} for row in rows if row not in METHODS}
    seeds = {
        row: {**variants.get(row, {}), "seeds": {str(seed): {"top1": top1, "made": {}} for seed, top1 in enumerate(found)}}
        for row, found in rows.items()
    }
    return {
        "kind": "classification",
        "headline": "top1",
        "distill": distill,
        "pool": pool,
        "rows": {"teacher": {"seeds": {"0": {"top1": 90.0, "nll": nll, "ms": fd, "made": made}}}} | seeds,
    }


def test_noise_is_farther_than_other_images_of_the_domain():
    given = setting(channels=3)
    smooth = torch.nn.functional.interpolate(images(n=200, channels=3, size=8).input.float(), 16, mode="bilinear")
    domain = pack(smooth.to(torch.uint8))
    near, far = domain.subset(torch.arange(100)), images(n=150, channels=3)
    other = domain.subset(torch.arange(100, 200))
    found = [pool_distance(given.teacher, kind(3), pool, other) for pool in (near, far)]
    assert [one["images"] for one in found] == [100, 100]
    assert found[1]["fd"] > 3 * found[0]["fd"]
    assert pool_distance(given.teacher, kind(3), other, other)["fd"] == pytest.approx(0, abs=1e-3)
    assert pool_distance(given.teacher, kind(3), near.subset(torch.arange(5)), other) == {"images": 5}


def test_tasks_are_beside_each_other_where_only_the_pool_differs():
    longer = {**DISTILL, "student_steps": 40}
    reports = {
        "near": report(0.1, 1.0),
        "far": report(0.1, 5.0),
        "long": report(0.1, 1.0, longer),
        "near-drawn-anew": report(0.1, 1.05),
        "few": report(0.1),
        "another": report(0.2, 2.0),
        "drawn": report(0.3, 2.0),
        "drawn-anew": report(0.3, 2.05),
    }
    assert [sorted(group) for group in distance.comparable(reports)] == [["far", "near"]]


def test_methods_stand_in_it_that_two_tasks_have_and_variants_that_all_have():
    rows = {"kd_ood": [50.0, 52.0], "mosaickd_no_local": [40.0]}
    near, far = report(0.1, 1.0, **rows, fast=[70.0]), report(0.1, 5.0, **rows, strong_cutmix=[55.0], cmi=[70.0])
    found = distance.lines({"near": near, "far": far})
    assert list(found["method"]) == ["kd_ood", "kd_ood", "mosaickd_no_local"] * 2
    assert list(found["distance"]) == [1.0] * 3 + [5.0] * 3
    more = {"near": near, "far": far, "noise": report(0.1, 9.0, kd_ood=[10.0], cmi=[70.0])}
    assert set(distance.lines(more)["method"]) == {"kd_ood", "cmi"}


@pytest.mark.parametrize("case", ["both", "alone", "teachers"])
def test_the_figure_is_drawn(project, case):
    reports = {"near": report(0.1, 1.0, kd_ood=[50.0, 52.0], fast=[70.0]), "far": report(0.1, 5.0, kd_ood=[30.0], cmi=[60.0])}
    if case == "alone":
        del reports["far"]
    if case == "teachers":
        reports = {"near": report(0.1, 1.0), "far": report(0.1, 5.0)}
    distance.draw(reports, paths.RESULTS / "figures")
    picture = matplotlib.image.imread(paths.RESULTS / "figures" / "distance.png")
    assert picture.std() > 0.02
