"""What a teacher remembers: the rule of curation and the stage, at smoke scale, and tasks that have no template."""

import math

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stages import curate, distill, impress, plan, train_teacher, train_templates
from stages.datasets.examples import Examples
from stages.impressions.room import each_class_first
from stages.networks import weights
from stages.networks.template import Impression
from stages.settings.paths import Places
from stages.support.errors import UserError


@pytest.fixture
def ready(project):
    """Digits with a teacher, photographs among letters, and a student that saw inverted images."""
    mixed = [{"source": "photographs", "count": 100}, {"source": "letters", "count": 100}]
    project.change("task.digits", ood={"source": "mixture", "parts": mixed}, curate={"keep": "impression", "count": 80})
    project.change("run", methods=["fast"])
    project.change("impress", tasks=["digits"])
    project.teach("digits")
    return project


def responses(net, images):
    """What enters the last batch normalisation of each stage of a convnet: its three."""
    heard = []
    hooks = [net.net.features[i].register_forward_pre_hook(lambda m, x: heard.append(x[0])) for i in (1, 4, 7)]
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    return heard


def test_images_are_kept_by_their_distance_from_what_the_teacher_remembers(ready):
    """Against the formula: over layers, channels' squared differences from the stored moments, in units of the pool's."""
    net = weights.load(Places("digits").teacher)[1].eval()
    ood = Examples.load(Places("digits").split("ood"))
    entered = responses(net, ood.input / 255)
    expected = torch.zeros(len(ood))
    for x, norm in zip(entered, (net.net.features[i] for i in (1, 4, 7)), strict=True):
        mean, deviation = x.mean((2, 3)), x.var((2, 3), correction=0).sqrt()
        scale = mean.var(0, correction=0).mean()
        apart = (mean - norm.running_mean).square() + (deviation - norm.running_var.sqrt()).square()
        expected += apart.mean(1) / scale / 3
    found = load_file(Places("digits").pool / "scores.safetensors")
    assert torch.allclose(found["impression"], expected, rtol=1e-3)
    predicted, kept = found["predicted"], set(found["rows"].tolist())
    assert len(kept) == 80
    for k in predicted.unique():  # a tenth of 80 of each class, or all that it has: the nearest
        mine = [i for i in found["impression"].argsort().tolist() if predicted[i] == k][:8]
        assert set(mine) <= kept


def test_the_rule_takes_running_statistics_and_stages(ready):
    ready.change("task.digits.teacher", network="lenet_4")
    train_teacher.main("digits")
    with pytest.raises(
        UserError, match=r"tasks/digits\.yaml: digits\.curate\.keep: `impression` takes one teacher with named stages and"
    ):
        curate.main("digits")


def test_the_stage_writes_numbers_tables_and_pictures(ready):
    distill.main("digits", "fast", "0")
    plan.main()
    train_templates.main("digits")
    states = [load_file(folder / "weights.safetensors") for folder in (Places("digits").teacher, *map(template, (1, 2)))]
    assert not any(torch.equal(a["head.weight"], b["head.weight"]) for a, b in ((states[0], states[1]), (states[1], states[2])))
    impress.main("digits")
    folder = Places("digits").impressions
    figures = ("neighbours-accuracy", "translation", "reconstructions", "synthesis", "sets", "images", "neighbours")
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.png" for name in figures),
        *("numbers.csv", "tables.md", "sets.csv"),
    }
    numbers = pd.read_csv(folder / "numbers.csv")
    near = numbers[numbers["table"] == "neighbours"]
    assert near.groupby(["template", "code"]).size().to_dict() == {
        ("none", "pixels"): 1,
        **{
            (what, code): 3
            for what in ("trained", "random")
            for code in ("mean + std", "mean", *(f"mean + std, layer {i}" for i in (1, 2, 3)))
        },
    }
    assert len(numbers[numbers["table"] == "decoding"]) == 12
    assert len(numbers[numbers["table"] == "translation"]) == 6
    text = (folder / "tables.md").read_text()
    assert all(f"## {title}" in text for title in ("Nearest neighbours", "Images decoded", "Images on their way", "Expected"))
    sets, known = Impression.load(Places("digits").codes), pd.read_csv(folder / "sets.csv", index_col=0)
    assert list(known.index) == list(known.columns)
    assert len(sets) == len(known)
    assert {"pool", "made by fast", *(f"validation: {k}" for k in range(10))} <= set(known.index)
    assert torch.allclose(torch.tensor(known.to_numpy()).float(), sets.relations(sets), rtol=1e-2, atol=1e-3)
    assert math.isclose(known["pool"]["pool"], 0)


def template(seed):
    return Places("digits").template(seed)


def test_the_first_of_each_class_vote_and_the_others_stay_in_order():
    labels = torch.tensor([4, 4, 1, 4, 1, 0, 4, 2])
    assert each_class_first(labels).tolist() == [0, 2, 5, 7, 1, 3, 4, 6]


def test_whole_images_are_scored_by_a_teacher_of_crops(project):
    """The pool is of the crop's size then, as the templates are; codes of the two are not compared."""
    project.change("task.digits.image", size=20, crop=16)
    project.change("task.digits", curate={"keep": "impression", "count": 30})
    project.teach("digits")
    assert len(load_file(Places("digits").pool / "pool.safetensors")["input"]) == 30
    project.change("run", methods=["impression"])
    distill.main("digits", "impression", "0")


def test_the_teachers_own_seed_is_no_other_template(project):
    project.change("task.digits.teacher.train", seed=2)
    project.change("impress", tasks=["digits"])
    with pytest.raises(UserError, match=r"impress\.templates: 'seed_2' is the teacher of 'digits' itself"):
        plan.main()


def test_a_task_without_a_template_of_images_is_refused_before_anything_runs(project):
    project.change("task.digits-letters.image", size=20, crop=16)
    for task in ("digit_scenes", "digits-halves", "digits-letters"):
        project.change("run", tasks=[task])
        project.change("impress", tasks=[task])
        with pytest.raises(UserError, match=rf"impress\.tasks: '{task}' has not what this takes: whole images of one label"):
            plan.main()
