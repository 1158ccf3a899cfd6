"""params.yaml has the form in which `dvc exp run -S` writes it, so that this changes what it was told to, and no more."""

import difflib
import shutil

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from stages import methods
from stages.settings import params
from stages.settings.catalogue import patched
from stages.settings.yaml import Loader
from tests.clones import REPOSITORY

PARAMS = REPOSITORY / "params.yaml"


@pytest.fixture
def file(tmp_path):
    shutil.copytree(REPOSITORY / "tasks", tmp_path / "tasks")
    shutil.copy(PARAMS, tmp_path)
    return tmp_path / "params.yaml"


def test_the_page_is_a_page():
    assert len(PARAMS.read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (["run.compile=false"], []),
        (["run.checkpoint_steps=17"], ["checkpoint_steps: 17"]),
        (["run.tasks=[digits,digits-noise]"], ["- digits-noise"]),
        (["task.distill.lr=0.05"], ["lr: 0.05"]),
        (["method.kd_ood.tau=2.0"], ["kd_ood: {tau: 2.0}"]),
        (["+method.dfq.lr=0.01"], ["dfq:", "lr: 0.01"]),
    ],
)
def test_an_override_changes_its_own_lines(file, overrides, changed):
    old = file.read_text()
    apply_overrides(file, overrides)
    lines = list(difflib.ndiff(old.splitlines(), file.read_text().splitlines()))
    assert [line[2:].split(" # ")[0].strip() for line in lines if line[0] == "+"] == changed
    assert sum(line[0] == "-" for line in lines) <= 1


def test_every_key_of_the_page_is_one_that_tasks_and_methods_have(file):
    """Each null, filled in with the value that is there already, changes nothing and is no unknown key."""
    content = yaml.load(PARAMS.read_text(), Loader)
    before = params.load(PARAMS)
    overrides = [
        f"method.{row}.{key}={getattr(methods.section(before, row, 'digits'), key)}"
        for row in content["method"]
        for key in content["method"][row]
    ]
    apply_overrides(file, overrides)
    after = params.load(file)
    assert all(methods.section(after, row, "digits") == methods.section(before, row, "digits") for row in content["method"])
    distill = before.task("digits").distill
    found = {
        "student": distill.student.network,
        **{key: getattr(distill, key) for key in content["task"]["distill"] if key != "student"},
    }
    apply_overrides(file, [f"task.distill.{key}={value}" for key, value in found.items()])
    apply_overrides(file, ["task.curate.keep=odsd", "task.curate.count=100", "task.curate.weights=none"])
    after = params.load(file)
    assert after.task("digits").distill == distill
    assert after.task("digits").curate == {"keep": "odsd", "count": 100, "weights": "none"}


def test_what_a_run_changes_is_for_its_own_tasks(file):
    apply_overrides(file, ["run.tasks=[digits,digits-halves]", "task.distill.lr=0.05", "method.mosaickd.local=0.7"])
    settings = params.load(file)
    assert [settings.task(name).distill.lr for name in ("digits", "digits-halves", "digits-noise")] == [0.05, 0.05, 0.1]
    local = [methods.section(settings, "mosaickd", name).local for name in ("digits", "digits-halves", "cifar10-small")]
    assert local == [0.7, 0.7, 1.0]
    assert methods.section(settings, "mosaickd_image", "digits").local == 0.7
    assert methods.section(settings, "mosaickd_no_local", "digits").local == 0.0  # a variant's own wins


def test_the_order_of_what_says_a_rows_values(file):
    """Later wins: code, the task's shared value, the task of the method, params.yaml of the method, then the variant's own value,
    the task of the variant, params.yaml of the variant.
    """
    said = {"mine": {"of": "digits", "distill": {"generator_width": 24}, "methods": {"mosaickd": {}}}}

    def width(row="mosaickd_wide", **changes):
        content = yaml.load(PARAMS.read_text(), Loader)
        content["run"] |= {"tasks": ["mine"], "methods": [row]}
        content["method"] = changes
        file.write_text(yaml.safe_dump(content))
        (file.parent / "tasks/mine.yaml").write_text(yaml.safe_dump(said))
        return methods.section(params.load(file), row, "mine").generator_width

    variants = file.parent / "tasks/variants.yaml"
    variants.write_text("mosaickd_wide: {of: mosaickd}")
    assert width("mosaickd") == width() == 24
    said["mine"]["methods"]["mosaickd"]["generator_width"] = 32
    assert width() == 32
    assert width(mosaickd={"generator_width": 40}) == 40
    variants.write_text("mosaickd_wide: {of: mosaickd, generator_width: 48}")
    assert width(mosaickd={"generator_width": 40}) == 48
    assert width("mosaickd", mosaickd={"generator_width": 40}) == 40
    said["mine"]["methods"]["mosaickd_wide"] = {"generator_width": 56}
    assert width(mosaickd={"generator_width": 40}) == 56
    assert width(mosaickd_wide={"generator_width": 60}) == 60
    said["mine"] = {"of": "digits", "distill": {"generator_width": None}}
    assert width("mosaickd") == 64  # the paper's, in code
    said["mine"]["methods"] = {"fast": {"generator_width": 20}}
    assert width("tessera") == 64  # nothing goes from a method to one that extends it


def test_a_wider_generator_is_no_business_of_a_row_without_one(file):
    before = params.load(file)
    (file.parent / "tasks/mine.yaml").write_text("mine: {of: digits, distill: {generator_width: 24}}")
    after = params.load(file)
    assert after.task("mine") == before.task("digits")
    assert methods.section(after, "kd_ood", "mine") == methods.section(before, "kd_ood", "digits")
    assert methods.section(after, "dfq", "mine").generator_width == 24


@pytest.mark.parametrize(
    ("base", "patch", "result"),
    [  # the appendix of RFC 7396
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_inheritance_is_a_json_merge_patch(base, patch, result):
    assert patched(base, patch) == result


@pytest.mark.parametrize(
    ("base", "patch", "result"),
    [
        ({"source": "a", "count": 1}, {"source": "b"}, {"source": "b"}),
        ({"source": "a", "count": 1}, {"source": "a", "seed": 2}, {"source": "a", "count": 1, "seed": 2}),
        ({"keep": "odsd", "count": 9}, {"keep": "all"}, {"keep": "all"}),
        (
            {"network": "a", "train": {"lr": 1}},
            {"network": "b", "train": {"epochs": 2}},
            {"network": "b", "train": {"epochs": 2}},
        ),
        ({"network": "a", "train": {"lr": 1}}, {"weights": {"path": "x"}}, {"network": "a", "weights": {"path": "x"}}),
        ({"network": "a", "weights": {"path": "x"}}, {"train": {"lr": 1}}, {"network": "a", "train": {"lr": 1}}),
        ({"student": "a"}, {"student": {"network": "b", "frozen": []}}, {"student": {"network": "b", "frozen": []}}),
        ({"network": "a", "train": {"lr": 1}}, {"exported": "t.pt2"}, {"exported": "t.pt2"}),
        ({"exported": {"path": "a"}, "order": "bgr"}, {"network": "b", "train": {}}, {"network": "b", "train": {}}),
        ({"onnx": {"path": "a", "mean": [0.5]}}, {"onnx": {"path": "b"}}, {"onnx": {"path": "b", "mean": [0.5]}}),
    ],
)
def test_a_section_of_another_kind_is_replaced_whole(base, patch, result):
    assert patched(base, patch) == result
