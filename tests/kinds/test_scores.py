import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn import metrics

from stages.datasets.examples import pack
from stages.kinds.classification.scores import expected_calibration_error, scores
from stages.reporting.intervals import half_interval
from stages.reporting.tables import summarise


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(0)
    student, teacher = 2 * torch.randn(2, 300, 12, generator=generator)
    return student, teacher, torch.randint(12, (300,), generator=generator)


def labelled(labels, classes="abcdefghijkl"):
    return pack(torch.zeros(len(labels), 1), labels, tuple(classes))


def test_scores_agree_with_scikit_learn(outputs):
    student, teacher, labels = outputs
    found = scores(student, teacher, labelled(labels))
    p, q = student.double().softmax(1).numpy(), teacher.double().softmax(1).numpy()
    guess = p.argmax(1)
    classes = range(12)
    assert found["top1"] == pytest.approx(100 * metrics.accuracy_score(labels, guess))
    assert found["top5"] == pytest.approx(100 * metrics.top_k_accuracy_score(labels, p, k=5, labels=classes))
    assert found["nll"] == pytest.approx(metrics.log_loss(labels, p, labels=classes), rel=1e-5)
    assert found["agree"] == pytest.approx(100 * metrics.accuracy_score(q.argmax(1), guess))
    assert found["kl"] == pytest.approx(stats.entropy(q, p, axis=1).mean(), rel=1e-5)
    table = metrics.confusion_matrix(labels, guess, labels=classes)
    assert list(found["per_class"].values()) == pytest.approx(100 * np.diag(table) / table.sum(1))


def test_top5_is_left_out_for_few_classes(outputs):
    student, teacher, labels = outputs
    assert "top5" not in scores(student[:, :10], teacher[:, :10], labelled(labels % 10, "abcdefghij"))


def test_a_class_without_images_has_no_accuracy():
    logits = torch.eye(3)[[0, 2]]
    assert scores(logits, logits, labelled(torch.tensor([0, 0]), "abc"))["per_class"] == {"a": 50.0, "b": None, "c": None}


def test_calibration_error_equals_a_loop_over_bins(outputs):
    student, _, labels = outputs
    confidence, guess = student.double().softmax(1).max(1)
    total = 0.0
    for low in np.arange(15) / 15:
        mine = (confidence > low) & (confidence <= low + 1 / 15)
        if mine.any():
            total += mine.sum() * abs((guess[mine] == labels[mine]).double().mean() - confidence[mine].mean())
    assert expected_calibration_error(student, labels) == pytest.approx(100 * float(total) / 300)
    sure = 1000.0 * torch.eye(10)
    assert expected_calibration_error(sure, torch.arange(10)) == 0
    assert expected_calibration_error(sure, torch.arange(10).flip(0)) == pytest.approx(100)


def test_intervals_are_students():
    values = [90.0, 92.0, 97.0]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert half_interval(values) == pytest.approx((high - low) / 2)
    assert np.isnan(half_interval([90.0]))


def test_the_table_holds_means_gains_and_n():
    runs = pd.DataFrame(
        [("teacher", 0, 98.0), ("kd_ood", 0, 30.0), ("kd_ood", 1, 40.0), ("mosaickd", 0, 90.0), ("mosaickd", 1, 92.0)],
        columns=["method", "seed", "top1"],
    )
    table = summarise(runs, "top1")
    assert list(table.index) == ["teacher", "kd_ood", "mosaickd"]
    assert table["top1"].tolist() == [98.0, 35.0, 91.0]
    assert np.isnan(table["gain"]["teacher"])  # one network, no method
    assert table["gain"].tolist()[1:] == [0.0, 56.0]
    assert table["n"].tolist() == [1, 2, 2]
