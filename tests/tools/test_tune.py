"""Trials of parameters: by one rule, none twice, six at most."""

import pandas as pd
import pytest

from stages.datasets.examples import Examples
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.tools import tune


@pytest.fixture
def made(project):
    project.change("task.digits.distill", student_steps=40)
    project.teach("digits")
    return project


def test_trials_are_kept_and_not_run_again(made, capsys):
    tune.main("digits", "kd_ood", "-; tau=2.0")
    found = pd.read_csv(tune.TUNING)
    assert found["trial"].tolist() == ["-", "tau=2.0"]
    assert found["steps"].tolist() == [10, 10]  # all of smoke scale
    assert found["val_top1"].between(0, 100).all()
    assert found["key"].nunique() == 2
    tune.main("digits", "kd_ood", "tau=2.0; tau=3.0")
    assert "'tau=2.0' was tried already" in capsys.readouterr().out
    again = pd.read_csv(tune.TUNING)
    assert again["trial"].tolist() == ["-", "tau=2.0", "tau=3.0"]
    pd.testing.assert_frame_equal(again[:2], found)

    # The same parameters on another pool are another trial.
    pool = Places("digits").pool / "pool.safetensors"
    examples = Examples.load(pool)
    examples.having(input=255 - examples.input).save(pool)
    tune.main("digits", "kd_ood", "-")
    assert pd.read_csv(tune.TUNING)["trial"].tolist() == ["-", "tau=2.0", "tau=3.0", "-"]


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ("; ".join(f"tau={tau}.0" for tau in range(1, 8)), "7 trials are more than 6"),
        ("tua=2.0", "trial 'tua=2.0': .*unknown key 'tua'; did you mean 'tau'"),
        ("tau", "a trial is written KEY=VALUE"),
    ],
)
def test_what_is_no_trial_is_named_before_anything_runs(made, trials, message):
    with pytest.raises(UserError, match=message):
        tune.main("digits", "kd_ood", trials)
    assert not tune.TUNING.exists()


def test_a_row_that_does_not_run_is_named(made):
    with pytest.raises(UserError, match="augkd does not run on digits"):
        tune.main("digits", "augkd", "-")
