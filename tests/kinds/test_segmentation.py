"""Every pixel has a label: what networks see, learn and are measured by, against loops and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from stages import kinds
from stages.datasets.examples import UNKNOWN, pack
from stages.datasets.images import Augment, ImageForm, Moves
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import train
from stages.jobs.requirements import why_not
from stages.kinds.segmentation import Kind
from stages.kinds.segmentation.scores import scores
from stages.kinds.segmentation.splits import check, held_out, twins
from stages.losses import distillation
from stages.losses.labels import cross_entropy
from stages.support.errors import UserError
from tests.small import CPU, METHODS, OBLONG, PLAIN, SHADES, SMALL, dense, images, maps, method_class
from tests.small import dense_method as game

CLASSES, SIZE = SHADES, OBLONG
REFUSED = ("cmi", "cmi_finetuned", "crd", "rkd", "sp", "sskd", "dfnd", "augkd", "impression", "tessera", "cfl")
WHOLE = ImageForm(size=SIZE, channels=1)


@pytest.mark.parametrize("crop", [None, 8])
@pytest.mark.parametrize(
    "name", [name for name in METHODS if name not in (*REFUSED, "supervised_student_domain", "dfq_finetuned")]
)
def test_every_method_that_needs_no_single_label_learns_on_images_that_are_not_square_and_on_crops(name, crop, tmp_path):
    one = game(name, crop=crop)
    before = {key: value.clone() for key, value in one.student.net.state_dict().items()}
    frozen = {key: value.clone() for key, value in one.teacher.state_dict().items()}
    probe = kinds.Probe(one.setting.kind, one.setting.student, maps(seed=2), CPU.autocast, one.teacher)
    curve = train(one, CPU, 0, Checkpoint(tmp_path, 1e6, 10**9), probe, name)
    assert set(curve[-1]) >= {"val_miou", "val_agree"}
    assert not any(torch.equal(value, before[key]) for key, value in one.student.net.state_dict().items() if "weight" in key)
    assert all(torch.equal(value, frozen[key]) for key, value in one.teacher.state_dict().items())
    made = one.samples(3)
    assert made is None or made.shape == (3, 1, *([crop, crop] if crop else SIZE))


def test_methods_that_need_one_label_an_image_are_refused():
    def reason(name):
        of = method_class(name)
        data = {"pool", "in_domain", "labels", "student_domain"}
        return why_not(of, of.Params(**SMALL.get(name, {})), Kind.has, {*PLAIN, "gradient", "batch_norm", "maps", "stages"}, data)

    assert {name for name in METHODS if reason(name)} == set(REFUSED)
    assert {reason(name) for name in REFUSED} == {"needs one label an example"}


@pytest.mark.parametrize("name", ["mosaickd", "odsd", "fast"])
def test_a_dense_run_that_was_killed_ends_as_one_that_was_not(name, tmp_path):
    def end(where, every):
        one = game(name, crop=8)
        train(one, CPU, 0, Checkpoint(tmp_path / where, 1e6, every_steps=every), dict, "")
        return one.student.net.state_dict()

    whole = end("a", 3)  # leaves a checkpoint before its last step
    again = end("a", 10**9)
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


@pytest.mark.parametrize(
    "augment", [Augment(crop=3, flip=True), Augment(scale=1.5), Augment(crop=2, flip=True, scale=2.0), Augment()]
)
def test_masks_move_with_their_images(augment):
    """A white spot of four pixels in black images: after any move, the label lies where the spot does."""
    torch.manual_seed(0)
    n, form = 64, ImageForm(size=[24, 32], channels=1, crop=16)
    label = torch.zeros(n, 24, 32, dtype=torch.int64)
    for row, (top, left) in zip(label, torch.randint(20, (n, 2)).tolist(), strict=True):
        row[top : top + 4, left : left + 4] = 1
    batch = Kind(form, ("no", "yes")).view({"input": (255 * label[:, None]).to(torch.uint8), "label": label}, augment)
    seen, moved = batch["input"][:, 0], batch["label"]
    assert seen.shape == moved.shape == (n, 16, 16)
    assert set(moved.unique().tolist()) <= {UNKNOWN, 0, 1}  # never interpolated
    assert (moved[seen > 0.99] == 1).all()
    assert (moved[seen < 0.01] != 1).all()
    spots = (moved == 1).sum((1, 2))
    assert (spots > 0).float().mean() > 0.2
    assert spots.unique().numel() > 1 or augment.scale == 1
    assert bool((moved == UNKNOWN).any()) == (augment.crop > 0)  # what came in from outside


def test_a_scaled_image_equals_bilinear_sampling_by_a_loop():
    torch.manual_seed(0)
    picture = torch.rand(3, 2, 12, 20)
    moves = Moves(3, Augment(crop=1, scale=2.0), (4, 8))
    found = moves(picture)
    for i in range(3):
        scale = float(moves.scale[i])
        for row in range(8):
            for column in range(12):
                at = []
                for place, side, shown, k in ((0, 12, 8, row), (1, 20, 12, column)):
                    first = (side + 2 - shown / scale) * float(moves.place[place, i]) - 1
                    at.append(first + (k + 0.5) / scale - 0.5)
                expected = torch.zeros(2)
                for y in range(int(np.floor(at[0])), int(np.floor(at[0])) + 2):
                    for x in range(int(np.floor(at[1])), int(np.floor(at[1])) + 2):
                        if 0 <= y < 12 and 0 <= x < 20:
                            expected += (1 - abs(at[0] - y)) * (1 - abs(at[1] - x)) * picture[i, :, y, x]
                assert torch.allclose(found[i, :, row, column], expected, atol=1e-4)


def test_logits_of_whole_images_are_not_those_of_their_crops():
    kind, whole = Kind(ImageForm(size=SIZE, channels=1, crop=8), CLASSES), maps(4)
    batch = {"input": whole.input, "logits": torch.zeros(4, 3, *SIZE)}
    assert "logits" not in kind.view(batch, Augment())
    assert "logits" in kind.view({**batch, "input": whole.input[..., :8, :8]}, Augment())
    assert "logits" in Kind(WHOLE, CLASSES).view(batch, Augment())


def test_dense_losses_equal_loops_over_pixels(fp64):
    torch.manual_seed(0)
    teacher, student = 3 * torch.randn(2, 2, 3, 4, 5)
    labels = torch.randint(-1, 3, (2, 4, 5))
    p, q = teacher.softmax(1), student.softmax(1)
    rows = [(b, y, x) for b in range(2) for y in range(4) for x in range(5)]
    kl = np.mean([sum(p[b, c, y, x] * (p[b, c, y, x] / q[b, c, y, x]).log() for c in range(3)).item() for b, y, x in rows])
    entropy = np.mean([-sum(p[b, c, y, x] * p[b, c, y, x].log() for c in range(3)).item() for b, y, x in rows])
    mean = np.array([np.mean([p[b, c, y, x].item() for b, y, x in rows]) for c in range(3)])
    gap = np.mean([(teacher[b, c, y, x] - student[b, c, y, x]).abs().item() for b, y, x in rows for c in range(3)])
    valid = [(b, y, x) for b, y, x in rows if labels[b, y, x] >= 0]
    right = [q[b, labels[b, y, x], y, x].item() for b, y, x in valid]
    assert distillation.kl_divergence(teacher, student).item() == pytest.approx(kl)
    assert distillation.entropy(teacher).mean().item() == pytest.approx(entropy)
    assert distillation.balance(teacher).item() == pytest.approx((mean * np.log2(mean)).sum())
    assert distillation.discrepancy(teacher, student).item() == pytest.approx(gap)
    assert cross_entropy(student, labels, -1).item() == pytest.approx(-np.log(right).mean())
    assert cross_entropy(student, labels, -1, 2.0).item() == pytest.approx(np.mean([-((1 - r) ** 2) * np.log(r) for r in right]))


def test_scores_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    examples = maps(6)
    examples = examples.having(label=torch.where(examples.label == 2, 0, examples.label))  # a class that is only predicted
    student, teacher = torch.randn(2, 6, 3, *SIZE, generator=generator)
    valid = examples.label != UNKNOWN
    truth, guess = examples.label[valid].numpy(), student.argmax(1)[valid].numpy()
    table = metrics.confusion_matrix(truth, guess, labels=range(3))
    ious = np.diag(table) / (table.sum(0) + table.sum(1) - np.diag(table))
    found = scores(student, teacher, examples)
    assert found["miou"] == pytest.approx(100 * metrics.jaccard_score(truth, guess, average="macro"))
    assert found["pixels"] == pytest.approx(100 * metrics.accuracy_score(truth, guess))
    assert list(found["per_class"].values()) == pytest.approx(100 * ious)
    assert found["agree"] == pytest.approx(100 * (student.argmax(1) == teacher.argmax(1)).float().mean().item())
    assert found["kl"] == pytest.approx(distillation.kl_divergence(teacher, student).item(), rel=1e-5)
    kind = Kind(WHOLE, CLASSES)
    assert kind.measure(student, examples) == pytest.approx(found["miou"])


def test_a_class_that_is_nowhere_is_left_out_of_the_mean():
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    labels[:, 0] = 1
    logits = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    examples = pack(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), labels, CLASSES)
    assert scores(logits, logits, examples)["per_class"] == {"dark": 100.0, "grey": 100.0, "bright": None}
    assert Kind(WHOLE, CLASSES).measure(logits, examples) == 100.0
    assert Kind(WHOLE, CLASSES).sense(logits, examples) == pytest.approx((100, (75 + 0) / 2))


def test_curation_is_told_shares_and_means_over_pixels():
    given = dense()
    logits = given.data["pool"].columns["logits"]
    said, p = given.kind.summary(logits), logits.softmax(1)
    for i in (0, 7):
        shares = [(logits[i].argmax(0) == k).float().mean().item() for k in range(3)]
        assert said["shares"][i].tolist() == pytest.approx(shares)
        assert said["confidence"][i].item() == pytest.approx(p[i].amax(0).mean().item())
        assert said["entropy"][i].item() == pytest.approx(-(p[i] * p[i].log()).sum(0).mean().item(), rel=1e-5)


def test_the_last_images_are_held_out_together():
    every = maps(20)
    rest, part = held_out(every, 0.1)
    assert part.index.tolist() == [18, 19]
    assert rest.index.tolist() == list(range(18))
    assert len(held_out(maps(3), 0.01)[1]) == 1


def test_test_frames_among_crops_are_found():
    smooth = nn.functional.interpolate(torch.rand(8, 1, 4, 6), SIZE, mode="bicubic").clamp(0, 1)
    test = pack((255 * smooth).to(torch.uint8))
    middle = nn.functional.interpolate(test.input[[2, 5], :, :, 4:20], (8, 8), mode="bilinear", antialias=True)
    assert twins(pack(torch.cat([middle, 255 - middle])), test, "").tolist() == [0, 1]


def test_a_set_without_masks_is_refused():
    with pytest.raises(UserError, match="where: segmentation needs a label for every pixel"):
        check(images(), "where")
    with pytest.raises(UserError, match="pixels that are labelled"):
        check(maps().having(label=torch.full((32, *SIZE), UNKNOWN)), "where")
