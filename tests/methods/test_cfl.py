"""Several teachers for one student: their sections, their training, and common feature learning."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from stages import curate, distill, evaluate, plan, prepare, report, train_teacher
from stages.datasets.examples import UNKNOWN, Examples, pack
from stages.datasets.sources.digits import Source
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import train
from stages.engine.teacher import Teacher
from stages.jobs.setup import open_teacher
from stages.kinds.classification import scores, splits
from stages.losses.common_features import SIGMAS, apart, mmd, reference_mmd
from stages.methods.bases.method import Schedule
from stages.networks.common_feature import CommonFeature
from stages.settings import params
from stages.settings.paths import Places
from stages.support.errors import UserError
from tests.small import CPU, form, method, method_class, network, setting, taught, with_data

TASK = "digits-halves"


def units(x):
    return [row.flatten().double() / row.flatten().double().norm() for row in x]


def naive(x, y, kernel, diagonal):
    """Squared MMD of unit vectors by loops over pairs."""

    def mean(a, b, own):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if diagonal or not own or i != j]
        return sum(kernel(float((a[i] - b[j]).square().sum())) for i, j in pairs) / len(pairs)

    x, y = units(x), units(y)
    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.fixture
def sets():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 6, 3, 2, 2, generator=generator)
    return x, 0.5 * y + torch.randn(3, 1, 1, generator=generator)


def of_the_median(x, y):
    """The kernel of `naive` whose widths are parts and multiples of the median squared distance of two different maps."""
    x, y = units(x), units(y)
    pairs = [(a, b) for a in x for b in y]
    pairs += [(own[i], own[j]) for own in (x, y) for i in range(len(own)) for j in range(len(own)) if i != j]
    squares = sorted(float((a - b).square().sum()) for a, b in pairs)
    median = squares[(len(squares) - 1) // 2]  # torch's: the lower of the two in the middle
    return lambda square: sum(math.exp(-square / (2 * part * median)) for part in (0.25, 0.5, 1, 2, 4)) / 5


@pytest.mark.parametrize("unbiased", [False, True])
def test_the_released_kernels_equal_loops_over_pairs(sets, unbiased):
    def kernel(square):
        return sum(math.exp(-square / (2 * sigma**2)) for sigma in SIGMAS)

    expected = naive(*sets, kernel, diagonal=not unbiased)
    assert reference_mmd(*sets, unbiased=unbiased).item() == pytest.approx(expected, abs=1e-5)


def test_kernels_of_the_median_distance_equal_loops_over_pairs(sets):
    assert mmd(*sets).item() == pytest.approx(naive(*sets, of_the_median(*sets), diagonal=False), abs=1e-5)


def test_sets_of_one_kind_are_closer_than_sets_of_two(sets):
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 200, 8, generator=generator) + 1
    assert abs(mmd(one, other)) < 0.01
    assert mmd(one, -other) > 0.5


def test_how_far_apart_features_point_is_a_mean_over_pairs(sets):
    x = units(sets[0])
    expected = sum(1 - float(x[i] @ x[j]) for i in range(6) for j in range(6) if i != j) / 30
    assert apart(sets[0]).item() == pytest.approx(expected, abs=1e-6)
    assert apart(sets[0][:1].expand(6, -1, -1, -1)).item() == pytest.approx(0, abs=1e-6)


def test_the_common_space_has_the_smallest_size_and_rebuilds_every_teacher():
    space = CommonFeature(6, [5, 7], 4)
    common = space(torch.randn(2, 6, 8, 8), [torch.randn(2, 5, 4, 6), torch.randn(2, 7, 3, 3)])
    assert [tuple(x.shape) for x in (common.student, *common.teachers)] == [(2, 4, 3, 3)] * 3
    assert [tuple(x.shape) for x in common.rebuilt] == [tuple(x.shape) for x in common.maps] == [(2, 5, 3, 3), (2, 7, 3, 3)]
    assert not any("bias" in name for name, _ in space.named_parameters())


def gradients(game, term):
    """Which of student, adaptors (student's, teachers'), extractor and decoders a term moves."""
    space = game.players["space"].net
    parts = {
        "student": game.student.net,
        "own adaptor": space.adaptors[0],
        "adaptors": space.adaptors[1],
        "extractor": space.extractor,
        "decoders": space.decoders,
    }
    for player in game.learners:
        player.net.requires_grad_(True)
        player.net.zero_grad()
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    game.terms(game.observe(images))[term][1].backward()
    return {name for name, net in parts.items() if any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())}


def test_each_term_moves_its_own_parts():
    game = method("cfl")
    assert gradients(game, "kd") == {"student"}
    assert gradients(game, "mmd") == {"student", "own adaptor", "adaptors", "extractor"}
    assert gradients(game, "reconstruction") == {"adaptors", "extractor", "decoders"}
    assert gradients(game, "pair") == {"student", "own adaptor", "extractor"}
    assert gradients(method("cfl", {"detach": True}), "mmd") == {"student", "own adaptor", "extractor"}


def test_terms_equal_a_plain_computation():
    game = method("cfl")
    observed = game.observe(torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    teacher, student = observed.maps
    terms, space = game.terms(observed), game.players["space"].net
    own, theirs = (space.extractor(adapt(x)) for adapt, x in zip(space.adaptors, (student, teacher), strict=True))
    maps = own.detach(), theirs.detach()
    assert terms["mmd"][1].item() == pytest.approx(naive(*maps, of_the_median(*maps), diagonal=False), abs=1e-5)
    error = (space.decoders[0](theirs) - teacher).square().mean()
    assert terms["reconstruction"][1].item() == pytest.approx((error / game.variances[0]).item(), rel=1e-5)
    expected = F.kl_div(observed.student.log_softmax(1), observed.teacher.softmax(1), reduction="batchmean")
    assert terms["kd"][1].item() == pytest.approx(expected.item(), rel=1e-4)
    cosines = [float(a @ b) for a, b in zip(units(own.detach()), units(theirs.detach()), strict=True)]
    assert terms["pair"][1].item() == pytest.approx(1 - sum(cosines) / 8, abs=1e-5)


@pytest.mark.learned
def test_only_rebuilding_keeps_the_space_from_falling_into_one_point(tmp_path):
    """Seeds 0 to 2: features are 0.002 to 0.018 apart without it, 0.107 to 0.240 with it; r2 below -11, and above 0.15.

    Seed 0, which runs here, passes with one and two threads and four instruction sets.
    """
    digits = Source(source="digits").read(form()).subset(torch.arange(600))
    recipe = Schedule(200, 32, 32, 0.1, 5e-4)
    makes = [("convnet_8", "01234", 0.1), ("lenet_8", "56789", 0.02)]
    parts = [taught(net, digits.of(tuple(known)), replace(recipe, lr=lr), [0.3], [0.32]).parts[0] for net, known, lr in makes]
    given = with_data(setting(teacher=Teacher(*parts)), pool=digits.unlabelled())
    given = replace(given, schedule=Schedule(200, 16, 32, 3e-3, 1e-4, optimizer="adam"))
    of, found = method_class("cfl"), []
    for weight in (0.0, 1.0):
        rt.seed(0)
        game = of(replace(given, student=network("convnet_8")), of.Params(hidden=8, reconstruction=weight))
        train(game, CPU, 0, Checkpoint(tmp_path / str(weight), 1e6, 10**9), dict, "")
        found.append(game.findings()[0])
    without, rebuilt = found
    assert without["apart"] < 0.04 < 0.1 < rebuilt["apart"]
    assert without["r2"] < 0 < rebuilt["r2"]


@pytest.fixture
def ready(project):
    """Two teachers, each of half of the digits, at smoke scale."""
    for stage in (prepare, train_teacher):
        stage.main(TASK)
    return project


def test_several_teachers_answer_as_one_and_are_scored_by_their_own_classes(ready):
    curate.main(TASK)
    for row in ("cfl", "cfl_in_domain_per_task", "kd_in_domain"):
        distill.main(TASK, row, "0")
    ready.change("run", tasks=[TASK], methods=["cfl", "cfl_in_domain_per_task", "kd_in_domain"], seeds=[0])
    plan.main()
    evaluate.main(TASK)
    task = params.load().task(TASK)
    blueprint, _, teacher = open_teacher(Places(TASK), task, CPU)
    assert [part.classes for part in blueprint.parts] == [tuple("01234"), tuple("56789")]
    test = Examples.load(Places(TASK).split("test"))
    images = test.input.float() / 255
    with torch.no_grad():
        logits = [part(images) for part in teacher.parts]
        torch.testing.assert_close(teacher(images), torch.cat(logits, 1))
    found = json.loads((Places(TASK).scores("teacher", 0) / "metrics.json").read_text())
    for i, own in enumerate(logits):
        mine = test.label // 5 == i
        right = (own[mine].argmax(1) == test.label[mine] - 5 * i).double().mean()
        assert found[f"part{i + 1}"] == pytest.approx(100 * right.item(), abs=1e-2)
    learned = json.loads((Places(TASK).scores("cfl", 0) / "metrics.json").read_text())
    assert {"known", "part1", "part2", "mmd", "apart", "r2"} <= learned.keys()
    space = load_file(Places(TASK).student("cfl", 0) / "space.safetensors")
    assert set(space) == {"student", "teacher 1", "teacher 2"}
    report.main(TASK)
    assert (Places(TASK).figures / "common-space.png").exists()


def test_a_class_beyond_255_is_no_other_class():
    """The released evaluation kept classes in 8 bits, where 256 is 0."""
    logits = F.one_hot(torch.tensor([0, 300]), 320).float() - F.one_hot(torch.tensor([256, 0]), 320)
    examples = pack(torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.tensor([256, 300]), tuple(map(str, range(320))))
    assert evaluate.by_part(logits, examples, [256, 64])["known"] == 50.0
    assert scores.scores(logits, logits, examples)["top1"] == 50.0


def test_an_image_without_a_label_is_no_class_of_several_teachers():
    labels = torch.arange(12) % 3
    labels[1] = UNKNOWN
    examples = pack(torch.zeros(12, 1, 1, 1, dtype=torch.uint8), labels, ("a", "b", "c"))
    ordered = examples.of(("c", "a", "b"))
    assert ordered.label.tolist() == [1, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert 1 not in ordered.index
    with pytest.raises(UserError, match=r"task\.t\.in_domain: its test part: needs labelled examples"):
        prepare.check(splits, examples.of(("a", "b", "c")), examples, "task.t.in_domain")


def test_what_is_wrong_with_several_teachers_is_said(project):
    one, other = project.section(TASK)["teachers"]
    project.change("run", tasks=[TASK])
    few, more, file = ({**other, "classes": classes} for classes in ([5, 6, 7, 8], [5, 6, 7, 8, 9, "ten"], ["none.txt"]))
    for stage, teachers, message in (
        (plan.main, [one, {**other, "classes": [4, 5, 6, 7, 8, 9]}], "two of them have the class '4'"),
        (plan.main, [one], "give either `teacher`, or `teachers`: two or more"),
        (plan.main, [one, {**other, "network": "nothing_3"}], r"teachers\.1\.network: network 'nothing_3' is unknown"),
        (lambda: prepare.main(TASK), [one, few], "each class of the in-domain data has one teacher.*look at 9"),
        (lambda: prepare.main(TASK), [one, more], "look at ten"),
        (lambda: prepare.main(TASK), [one, file], r"the list of classes none\.txt is missing"),
    ):
        project.change(f"task.{TASK}", teachers=teachers)
        with pytest.raises(UserError, match=message):
            stage()


def test_several_teachers_are_of_images_with_one_label_and_start_no_student(ready):
    curate.main(TASK)
    ready.change(f"task.{TASK}.distill", student={"network": "convnet_32", "teacher_layers": ["head"]})
    with pytest.raises(UserError, match="teacher_layers: there are several teachers"):
        distill.main(TASK, "kd_ood", "0")
    halves = [{"classes": [name], "network": "unet_4", "train": {}} for name in ("a", "b")]
    halves = [half | {"train": ready.section(TASK)["teachers"][0]["train"]} for half in halves]
    ready.change("task.digit_scenes", teacher=None, teachers=halves)
    with pytest.raises(UserError, match="several teachers take images of one label each, which 'segmentation' has not"):
        prepare.main("digit_scenes")
