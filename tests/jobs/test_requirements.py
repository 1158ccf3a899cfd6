"""Which methods are refused where, and the schedules that they may bring."""

from dataclasses import replace

import pytest
import torch

from stages import methods
from stages.jobs.requirements import why_not
from stages.jobs.setup import DATA, able, schedule_of
from stages.kinds.classification import Kind
from stages.methods.bases.method import Rescheduled, Schedule
from stages.networks.build import build
from stages.settings import params
from stages.settings.task import Distill
from tests.clones import REPOSITORY
from tests.small import METHODS, PLAIN, SMALL, method, method_class, setting

USUAL = DATA - {"student_domain"}
CAN = {*PLAIN, "gradient", "batch_norm", "maps", "stages"}


def reason(name, kind=Kind.has, can=CAN, data=DATA, **changes):
    of = method_class(name)
    return why_not(of, of.Params(**SMALL.get(name, {}) | changes), kind, can, data)


def test_nothing_is_refused_where_everything_is_there():
    assert {name: reason(name) for name in METHODS} == dict.fromkeys(METHODS)


@pytest.mark.parametrize(
    ("missing", "refused"),
    [
        (
            "batch_norm",
            {
                *("mosaickd_bn", "dfq", "deepinversion", "cmi", "fast", "augkd", "dfq_finetuned", "cmi_finetuned"),
                *("impression", "tessera"),
            },
        ),
        ("stages", {"fitnet", "at", "sp"}),
        ("maps", {"cfl"}),
        ("features", {"fitnet", "at", "sp", "rkd", "crd", "dafl", "sskd", "odsd"}),
        (
            "asked",
            set(METHODS) - {"supervised", "kd_ood", "balanced", "supervised_student_domain"},
        ),
        (
            "gradient",
            {
                *(name for name in METHODS if name.startswith("mosaickd")),
                "dfad",
                "dafl",
                "zskt",
                "dfq",
                "deepinversion",
                "cmi",
                "fast",
                "augkd",
                "dfq_finetuned",
                "cmi_finetuned",
                "impression",
                "tessera",
            },
        ),
    ],
)
def test_who_needs_what_of_a_teacher(missing, refused):
    assert {name for name in METHODS if reason(name, can=CAN - {missing})} == refused


def test_who_needs_which_data():
    shifted = {name for name in METHODS if reason(name, data=USUAL)}
    assert shifted == {"augkd", "supervised_student_domain", "dfq_finetuned", "cmi_finetuned"}
    assert {name for name in METHODS if reason(name, data=DATA - {"in_domain"})} == {"supervised", "kd_in_domain"}
    assert {name for name in METHODS if reason(name, data=DATA - {"labels"})} == {"supervised"}


def test_needs_depend_on_the_parameters():
    assert reason("augkd", can=PLAIN, data_free=0, b=1.0) is None
    assert reason("tessera", can=PLAIN, synthetic=0.0) is None
    assert "batch normalisation" in reason("augkd", can={*PLAIN, "gradient"}, data_free=1, b=1.0)


def test_a_method_is_refused_where_the_kind_has_not_what_it_asks_for():
    assert reason("cmi", kind={"one_label"}) == "needs images"
    assert reason("cmi", kind={"images"}) == "needs one label an example"
    dense = {name for name in METHODS if not reason(name, kind={"images"})}
    one_label = {"cmi", "cmi_finetuned", "crd", "rkd", "sp", "sskd", "dfnd", "augkd", "impression", "tessera", "cfl"}
    assert dense == set(METHODS) - one_label
    text = {name for name in METHODS if not reason(name, kind={"one_label"})}
    assert text == {"supervised", "kd_in_domain", "kd_ood", "balanced", "dfnd", "supervised_student_domain"}


def test_variants_are_asked_with_their_own_parameters():
    settings = params.load(REPOSITORY / "params.yaml")
    section = methods.section(settings, "augkd_labels_only", "digits-shift")
    of = methods.method_class(settings, "augkd_labels_only")
    assert why_not(of, section, Kind.has, PLAIN, DATA) is None


def test_a_method_brings_its_own_schedule():
    game = method("kd_ood", {"schedule": Rescheduled(steps=7, batch=4, lr=0.5)})
    assert (game.iterations, game.pool.batch, game.student.base_lr) == (7, 8, 0.5)
    assert game.schedule.weight_decay == game.setting.schedule.weight_decay
    assert method("kd_ood").schedule == method("kd_ood").setting.schedule


def test_a_schedule_names_its_optimiser_rate_and_clip():
    distill = Distill(
        student="convnet_4", student_steps=9, batch=4, lr=0.1, weight_decay=0.0, optimizer="adam", rate="constant", clip=1e-3
    )
    schedule = schedule_of(distill)
    assert schedule == Schedule(9, 4, 8, 0.1, 0.0, optimizer="adam", rate="constant", clip=1e-3)
    changes = {"optimizer": "adam", "rate": "constant", "clip": 1e-3, "lr": 0.1}
    game = method("kd_ood", {"schedule": Rescheduled(**changes)})
    assert isinstance(game.student.optimizer, torch.optim.Adam)
    heads = method("fitnet", {"schedule": Rescheduled(**changes)}).players["heads"]
    assert (type(heads.optimizer), heads.falling, heads.clip) == (torch.optim.Adam, "constant", 1e-3)
    game.student.anneal(0.9)
    assert game.student.optimizer.param_groups[0]["lr"] == 0.1
    game.step()
    norm = torch.stack([p.grad.norm() for p in game.student.parameters]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)  # longer before: the loss of a fresh student is far from its lowest


def test_a_method_with_an_optimiser_of_its_own_takes_no_other():
    with pytest.raises(ValueError, match="an optimiser of its own"):
        method_class("augkd").Params(schedule=Rescheduled(lr=0.1))


def test_a_student_that_names_no_stages_is_asked_for_none():
    given = setting()
    assert {"maps", "stages"} <= able(given)
    assert "stages" not in able(replace(given, student=build("torchvision.mobilenet_v3_small", 10, (1, 64, 64))))
