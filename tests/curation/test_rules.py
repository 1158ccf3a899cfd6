"""Which images are kept: scores against naive loops and scikit-learn, quotas, near-duplicates."""

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import entropy as scipy_entropy
from sklearn.cluster import KMeans

from stages.curate import summary
from stages.curation import scores as sampling
from stages.curation.duplicates import near_duplicates
from stages.curation.rules import open_rule
from stages.datasets.examples import joined, pack
from stages.datasets.images import Augment, to_unit
from stages.datasets.sources.digits import Source as Digits
from stages.datasets.sources.font_digits import Source as FontDigits
from stages.datasets.sources.photographs import Source as Photographs
from stages.datasets.sources.tar import Source as Tar
from stages.methods.bases.method import Schedule
from stages.networks.taps import classifier, logits_and_features
from tests.clones import REPOSITORY
from tests.small import form, kind, taught


def select(scores, count, classes, **curate):
    return open_rule("t", curate).choose(scores, count, classes).sort().values


def said(logits):
    """What curate knows of images with these logits."""
    known = kind().summary(logits)
    return known | {"predicted": sampling.standing_out(known["shares"])}


def score(logits, features, **curate):
    """What the kind and the rule say of each image."""
    known = said(logits)
    classifier = torch.randn(logits.shape[1], features.shape[1], generator=torch.Generator().manual_seed(1))
    return known | open_rule("t", curate).scores(known, features.half(), classifier)


@pytest.fixture
def pool():
    """Logits and features of 200 images, of which the teacher sees class 0 in half and class 3 in none."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 4, generator=generator)
    logits[:100, 0] += 8
    logits[:, 3] -= 9
    return logits, torch.randn(200, 6, generator=generator)


def test_an_outlier_is_far_from_its_classs_row_of_the_classifier(pool):
    logits, features = pool
    predicted, rows = logits.argmax(1), torch.randn(4, 6)
    found = sampling.outlier(features.half(), F.one_hot(predicted, 4).float(), rows)
    for i in range(0, 200, 7):
        x, row = features[i], rows[predicted[i]]
        assert found[i].item() == pytest.approx(1 - float(x @ row / (x.norm() * row.norm())), abs=2e-3)


def test_with_prototypes_of_the_pool_an_outlier_is_far_from_each_of_its_class(pool):
    logits, features = pool
    predicted, sure = logits.argmax(1), kind().summary(logits)["confidence"]
    found = sampling.outlier_in_pool(features, predicted, sure, 4)
    for k in range(3):
        mine = (predicted == k).nonzero().flatten()
        half = sorted(mine.tolist(), key=lambda i: -float(sure[i]))[: math.ceil(len(mine) / 2)]
        unit = F.normalize(features, dim=1)
        fit = KMeans(4, n_init=1, max_iter=10, random_state=0).fit(unit[half].double().numpy())
        centres = fit.cluster_centers_ / np.linalg.norm(fit.cluster_centers_, axis=1, keepdims=True)
        for i in mine.tolist():
            nearest = max(float(unit[i].double().numpy() @ centre) for centre in centres)
            assert found[i].item() == pytest.approx(1 - nearest, abs=1e-5)


def test_a_small_class_has_its_mean_for_a_prototype():
    features = torch.eye(3)
    found = sampling.outlier_in_pool(features, torch.zeros(3, dtype=torch.long), torch.tensor([0.9, 0.8, 0.1]), 4)
    half = 1 - 1 / math.sqrt(2)  # of the two surest
    assert found.tolist() == pytest.approx([half, half, 1.0])


def test_density_is_relative_to_the_most_crowded_class():
    shares = F.one_hot(torch.tensor([0, 0, 0, 0, 1, 2, 2]), 4).float()
    assert sampling.density(shares).tolist() == [1, 1, 1, 1, 0.25, 0.5, 0.5]
    assert sampling.density(torch.tensor([[0.5, 0.5], [0.0, 1.0]])).tolist() == pytest.approx([2 / 3, 1])  # 1/3 and 1


def test_the_class_that_stands_out_is_the_predicted_one_or_the_rarest_of_several():
    predicted = torch.tensor([0, 0, 0, 2, 0])
    assert torch.equal(sampling.standing_out(F.one_hot(predicted, 4).float()), predicted)
    ground = torch.tensor([[0.9, 0.1, 0.0], [0.95, 0.0, 0.05], [1.0, 0.0, 0.0]])
    assert sampling.standing_out(ground).tolist() == [1, 2, 0]


def test_scores_are_scaled_by_their_quantiles():
    x = torch.arange(101.0)
    assert sampling.scaled(x).tolist() == pytest.approx([min(max((i - 1) / 98, 0), 1) for i in range(101)])
    assert sampling.scaled(torch.ones(9)).tolist() == [0] * 9


def test_effective_classes_is_the_exponential_of_the_entropy(pool):
    predicted = pool[0].argmax(1)
    shares = np.bincount(predicted.numpy(), minlength=4)
    assert sampling.effective_classes(F.one_hot(predicted, 4)) == pytest.approx(math.exp(scipy_entropy(shares)))
    assert sampling.effective_classes(torch.eye(8)) == pytest.approx(8)


def test_quotas_take_the_best_of_each_class_and_fill_up_with_the_best_of_all(pool):
    logits, features = pool
    scores = score(logits, features, keep="odsd")
    rows = select(scores, 120, 4, keep="odsd").tolist()
    assert len(set(rows)) == 120
    best = sorted(range(200), key=lambda i: -float(scores["total"][i]))
    expected = {i for k in range(4) for i in [j for j in best if scores["predicted"][j] == k][:30]}
    expected |= set([i for i in best if i not in expected][: 120 - len(expected)])
    assert set(rows) == expected


@pytest.mark.parametrize("count", [40, 41, 45, 49])
def test_no_class_falls_below_its_share_where_the_count_is_no_multiple_of_the_classes(count):
    predicted, total = torch.arange(500) % 10, torch.linspace(1, 0, 500) - torch.arange(500) % 10
    kept = predicted[sampling.best_of_each(total, predicted, 10, count)]
    assert len(kept) == count
    assert torch.bincount(kept, minlength=10).min() == 4


def test_the_density_form_pushes_crowded_classes_out(pool):
    logits, features = pool
    rule = {"keep": "odsd", "balance": "density", "density": 5.0}
    scores = score(logits, features, **rule)
    kept = scores["predicted"][select(scores, 60, 4, **rule)]
    assert (kept == 0).sum() == 0
    sure, far, crowded = (sampling.scaled(scores[key]) for key in ("confidence", "outlier", "density"))
    torch.testing.assert_close(scores["total"], sure - far - 5 * crowded)


def test_without_a_balance_the_best_of_all_are_taken(pool):
    scores = score(*pool, keep="odsd", balance="none")
    rows = select(scores, 60, 4, keep="odsd", balance="none")
    assert scores["total"][rows].min() >= scores["total"].sort().values[-60]


def test_quantiles_are_numpys():
    x = torch.rand(101)
    assert list(sampling.quantiles(x).values()) == pytest.approx(np.quantile(x.numpy(), [0.01, 0.25, 0.5, 0.75, 0.99]).tolist())


def test_selection_by_a_single_score():
    scores = {"entropy": torch.tensor([0.1, 2.0, 0.5, 1.0]), "confidence": torch.tensor([0.9, 0.3, 0.95, 0.4])}
    kept = {keep: select(scores, 2, 4, keep=keep).tolist() for keep in ("highest_entropy", "lowest_entropy", "confidence")}
    assert kept == {"highest_entropy": [1, 3], "lowest_entropy": [0, 2], "confidence": [0, 2]}
    assert select(scores, 2, 4, keep="all").tolist() == [0, 1, 2, 3]
    drawn = select(scores, 3, 4, keep="random")
    assert len(set(drawn.tolist())) == 3
    assert torch.equal(drawn, select(scores, 3, 4, keep="random"))


def test_the_summary_counts_classes_before_and_after(pool):
    logits, features = pool
    scores = score(logits, features, keep="odsd")
    rows = select(scores, 90, 4, keep="odsd")
    shares = scores.pop("shares")
    facts = summary(scores, shares, rows)
    assert facts["histogram_before"] == torch.bincount(logits.argmax(1), minlength=4).tolist()
    assert sum(facts["histogram_after"]) == facts["images"] == 90
    assert facts["histogram_after"][3] == 0
    assert facts["effective_classes_after"] > facts["effective_classes_before"]


@pytest.mark.parametrize("channels", [1, 3])
def test_near_duplicates_survive_compression_and_a_change_of_brightness(channels):
    photographs = Photographs(source="photographs", count=60).read(form(channels, 32))
    pictures = photographs.input
    again = pictures[:20].clone()
    again[0:5] = (pictures[0:5].float() * 0.97).round().to(torch.uint8)
    for i in range(5, 10):
        buffer = io.BytesIO()
        array = pictures[i].permute(1, 2, 0).squeeze(2).numpy()
        Image.fromarray(array).save(buffer, "JPEG", quality=90)
        again[i] = torch.from_numpy(np.array(Image.open(buffer))).view(32, 32, channels).permute(2, 0, 1)
    others = pack(again[:10])
    found = near_duplicates(photographs, others, "").tolist()
    assert set(range(10)) <= set(found)
    grey = [x.float().mean(1).flatten(1).numpy() for x in (pictures, others.input)]
    alike = np.corrcoef(*grey)[:60, 60:] >= 0.99
    alike |= np.array([[bool((a.float() - b.float()).abs().mean() <= 2) for b in others.input] for a in pictures])
    assert set(found) <= set(np.flatnonzero(alike.any(1)))  # two patches of one photograph may overlap
    assert len(found) < 15
    noise = torch.randint(256, (50, channels, 32, 32), dtype=torch.uint8)
    assert near_duplicates(pack(noise), others, "").tolist() == []


SAMPLERS = {
    "random": {"keep": "random"},
    "default": {"keep": "odsd"},
    "no quota": {"keep": "odsd", "balance": "none"},
    "pool prototypes": {"keep": "odsd", "prototypes": "pool"},
}


def picked(teacher, pool, junk_from, count, classes, batch=256):
    """Share of junk and effective classes in what each sampler takes, and the rows themselves."""
    answers = zip(*logits_and_features(teacher, (to_unit(x) for x in pool.batches(batch)), features=True), strict=True)
    logits, features = (torch.cat(parts) for parts in answers)
    known, found = said(logits), {}
    for name, curate in SAMPLERS.items():
        rule = open_rule("t", curate)
        scores = known | rule.scores(known, features, classifier(teacher))
        rows = rule.choose(scores, count, classes)
        effective = sampling.effective_classes(known["shares"][rows])
        found[name] = (rows >= junk_from).float().mean().item(), effective, rows
    return found


@pytest.mark.learned
def test_sampling_finds_the_natural_images_in_a_polluted_pool():
    """Digits in printed fonts among twice as many patches of photographs, which the teacher takes for two or three classes.

    Measured over three teachers: junk 0.32 to 0.34 against 0.65 by chance; 10.0 effective classes, 1.0 to 3.9 without quotas.
    """
    digits = Digits(source="digits").read(form())
    teacher = taught("convnet_16", digits, Schedule(400, 32, 64, 0.1, 5e-4, Augment(crop=1)), [0.3], [0.35])
    good = FontDigits(source="font_digits", count=500).read(form()).unlabelled()
    pool = joined([good, Photographs(source="photographs", count=1000).read(form())])
    found = picked(teacher, pool, 500, 200, 10)
    assert found["default"][0] < found["random"][0] - 0.15
    assert found["no quota"][1] < 6 < 9 < found["default"][1]
    # Neither the order of the pool nor the size of batches matters.
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(1))
    again = picked(teacher, pool.subset(order), 500, 200, 10, batch=100)["default"][2]
    both = set(order[again].tolist()) & set(found["default"][2].tolist())
    assert len(both) >= 196  # ties at the last bit of a half-precision feature may fall otherwise


PACKS = {name: REPOSITORY / "data" / "packs" / f"{name}.tar.xz" for name in ("cifar10-jpeg", "tiny-imagenet-32", "mnist-png")}


@pytest.mark.learned
@pytest.mark.skipif(not all(path.exists() for path in PACKS.values()), reason="needs three archives under data/packs")
def test_sampling_on_the_polluted_pool_of_the_specification():
    """5,000 images of Tiny-ImageNet among 10,000 of MNIST, a teacher of 9,000 images of CIFAR-10 (ODSD's small-scale check)."""

    def first(name, count, **options):
        whole = Tar(source="tar", path=str(PACKS[name]), **options).read(form(3, 32))
        return whole.subset(torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:count])

    cifar = first("cifar10-jpeg", 9000, train="train")
    steps = 9 * (9000 // 100)
    schedule = Schedule(steps, 50, 100, 0.1, 5e-4, Augment(flip=True))
    teacher = taught("convnet_32", cifar, schedule, [0.49, 0.48, 0.45], [0.25, 0.24, 0.26])
    pool = joined(
        [first("tiny-imagenet-32", 5000, train="train").unlabelled(), first("mnist-png", 10000, train="train").unlabelled()]
    )
    found = picked(teacher, pool, 5000, 2000, 10)
    assert found["random"][0] == pytest.approx(0.667, abs=0.03)
    assert found["default"][0] < 0.2
    assert found["default"][0] < found["pool prototypes"][0]
    assert found["no quota"][1] < found["default"][1] - 1
