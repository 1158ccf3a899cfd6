"""The rows with the schedules under which they were published, and the student that is fine-tuned after a data-free part."""

from dataclasses import replace

import pytest
import torch

from stages import methods
from stages.datasets.images import Augment
from stages.engine import runtime as rt
from stages.jobs.setup import schedule_of
from stages.settings import params
from stages.settings.rates import Drops, factor
from tests.clones import REPOSITORY
from tests.small import method

TASK = "cifar100-cifar10-wrn40_2-wrn16_1"
# Steps of the student, examples a step, learning rate, weight decay, rate at 0, 30, 50 and 90 % of the run, of the papers' code.
COSINE = [1.0, 0.7939, 0.5, 0.0245]
PUBLISHED = {
    "mosaickd": (39200 * 5, 512, 0.1, 1e-4, COSINE),
    "crd_published": (391 * 200, 128, 0.1, 1e-4, COSINE),
    "kd_ood_published": (391 * 200, 128, 0.1, 1e-4, COSINE),
    "dafl_published": (400 * 200, 256, 0.1, 1e-4, COSINE),
    "zskt_published": (400 * 200, 256, 0.1, 1e-4, COSINE),
    "dfq_published": (400 * 200, 256, 0.1, 1e-4, COSINE),
    "deepinversion_published": (400 * 200, 256, 0.1, 1e-4, COSINE),
    "cmi_published": (400 * 200, 128, 0.1, 1e-4, COSINE),
    "fast_published": (400 * 200, 256, 0.2, 1e-4, COSINE),
    "dfad_published": (500 * 50 * 5, 256, 0.1, 5e-4, [1, 0.1, 0.01, 0.01]),
    "dfnd_published": (1600 * 50000 // 256, 256, 0.1, 5e-4, [1, 1, 0.1, 0.01]),
    "sskd_published": (240 * 782, 256, 0.05, 5e-4, [1, 1, 1, 0.001]),
}
REAL = {"mosaickd", "kd_ood_published", "crd_published", "dfnd_published", "sskd_published"}  # of which a step sees 2B examples
MAKERS = {"dafl", "dfad", "dfq", "zskt", "cmi", "fast", "deepinversion", "impression"}  # of all their images


@pytest.fixture(scope="module")
def settings():
    return params.load(REPOSITORY / "params.yaml")


@pytest.mark.parametrize("row", PUBLISHED)
def test_a_published_row_has_its_papers_schedule(row, settings):
    section, steps = methods.section(settings, row, TASK), PUBLISHED[row]
    of_task = schedule_of(settings.task(TASK).distill)
    schedule = section.schedule.of(of_task) if section.schedule else of_task
    seen = schedule.real if row in REAL else schedule.batch
    assert (seen, schedule.lr, schedule.weight_decay) == steps[1:4]
    assert schedule.steps == pytest.approx(steps[0], rel=1e-3)
    assert [factor(schedule.rate, at) for at in (0, 0.3, 0.5, 0.9)] == pytest.approx(steps[4], abs=1e-4)


@pytest.mark.parametrize(
    ("row", "task", "key", "value"),
    [
        ("kd_ood_published", "cifar100-svhn-wrn40_2-wrn16_1", "steps", 573 * 200),
        ("dfq_published", "cifar100-cifar10-resnet34-resnet18", "lr", 0.05),
        ("dfq_published", "cifar10-imagenet32-resnet34-resnet18", "lr", None),
    ],
)
def test_a_schedule_is_that_of_its_data_set_and_pair(row, task, key, value, settings):
    assert getattr(methods.section(settings, row, task).schedule, key) == value


@pytest.mark.parametrize(
    ("task", "adversarial", "confidence"),
    [
        ("cifar100-cifar10-resnet34-resnet18", 1.33, 0.5),
        ("cifar10-imagenet32-vgg11-resnet18", 1.0, 0.5),
        ("cifar100-cifar10-wrn40_2-wrn16_1", 1.1, 0.4),
    ],
)
def test_fasts_weights_are_its_teachers(task, adversarial, confidence, settings):
    section = methods.section(settings, "fast_published", task)
    assert (section.adversarial, section.confidence, section.bn) == (adversarial, confidence, 10.0)


def test_rows_that_are_compared_have_the_tasks_schedule(settings):
    """On every task, but for published rows and images as they are (`kd_ood_bare`), and but for what is said here.

    A method that makes all its images takes 2B a step, as others see 2B. ODSD lives on two views where the task augments nothing.
    CFL has its paper's optimiser on animals. One task is about equal seconds, so steps differ.
    """
    for task in settings.catalogue.tasks:
        distill = settings.task(task).distill
        for row in settings.rows:
            own = methods.section(settings, row, task).schedule
            if own is None or row.endswith("_published") or row == "kd_ood_bare":
                continue
            changed = {key: value for key, value in own.model_dump().items() if value is not None}
            if settings.method_of(row) in MAKERS and changed.get("batch") == 2 * distill.batch:
                del changed["batch"]
            if row == "odsd" and not distill.augment.changes:
                changed.pop("augment", None)
            if row.startswith("cfl") and task.startswith("animals"):
                assert changed == {"lr": 0.003, "optimizer": "adam"}
                continue
            assert not changed, (task, row)


def test_a_schedule_says_where_it_differs(settings):
    of_task = schedule_of(settings.task(TASK).distill)
    changed = methods.section(settings, "dfad_published", TASK).schedule.of(of_task)
    assert changed.beside(of_task) == {
        "steps": [196000, 125000],
        "weight_decay": [1e-4, 5e-4],
        "rate": ["cosine", {"at": [0.2, 0.4], "by": 0.1}],
    }
    assert of_task.beside(of_task) == {}


def test_smoke_scale_shrinks_a_schedule_of_its_own(settings):
    small = replace(settings, run=settings.run.model_copy(update={"scale": "smoke"}))
    section = methods.section(small, "sskd_published", TASK)
    schedule = section.schedule.of(schedule_of(small.task(TASK).distill))
    assert (schedule.steps, schedule.batch, schedule.lr) == (10, 16, 0.05)
    assert isinstance(schedule.rate, Drops)


@pytest.mark.parametrize("name", ["dfq", "cmi"])
def test_a_fine_tuned_student_is_the_data_free_one_taught_by_labels(name):
    """Until the labels begin, bit for bit what the method itself makes; then cross-entropy with a fresh SGD, by a plain loop."""
    augment = Augment(crop=1)
    one, alone = method(f"{name}_finetuned", steps=4, augment=augment), method(name, steps=40, augment=augment)
    assert [length for length, _ in one.phases()] == [alone.iterations, 4]
    for step in range(alone.iterations):
        rt.seed(0, step)
        one.step()
        rt.seed(0, step)
        alone.step()
    both = (one.student.net.state_dict(), alone.student.net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in both), strict=True))
    net = alone.student.net
    with alone.student.turn():
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
        for step in range(4):
            rt.seed(1, step)
            found = one.step()["label"]
            rt.seed(1, step)
            one.domain.seek(step)
            batch = one.domain.next()
            loss = torch.nn.functional.cross_entropy(net(batch["input"]), batch["label"])
            assert found.item() == pytest.approx(loss.item(), rel=1e-4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert one.cost.images == alone.cost.images
    assert one.student.updates == 44
