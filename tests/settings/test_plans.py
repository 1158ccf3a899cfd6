"""What a digest of code sees and what it does not; import closures; plans that are older than the code."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages import distill, plan, prepare
from stages.methods._identities import of_row
from stages.settings import params, plans
from stages.settings.paths import Places
from stages.support.errors import UserError
from tests.clones import REPOSITORY

SOURCE = '''"""A module."""

import math  # for pi


class A:
    """A class."""

    size: int = 3

    def area(self, r: float) -> float:
        """In pixels."""
        if r < 0:
            raise ValueError(f"{r} in words")
        return math.pi * r**2  # of a circle


def text() -> str:
    return f"{A.size!r:>4} and 'so on'"
'''

SAME = [
    ("in pixels", SOURCE.replace("In pixels.", "In square pixels, of course.")),
    ("comments", SOURCE.replace("  # for pi", "").replace("# of a circle", "# of a disc")),
    ("blank lines", SOURCE.replace("\n\n\n", "\n\n\n\n\n")),
    (
        "no docstrings",
        SOURCE.replace('"""A module."""', "").replace('    """A class."""\n', "").replace('        """In pixels."""\n', ""),
    ),
    ("what an error says", SOURCE.replace("in words", "in other words")),
    ("quotes", SOURCE.replace("f\"{A.size!r:>4} and 'so on'\"", "f'''{A.size!r:>4} and 'so on\\''''")),
]
OTHER = [
    ("a number", SOURCE.replace("r**2", "r**3")),
    ("a name", SOURCE.replace("area", "surface")),
    ("a default", SOURCE.replace("size: int = 3", "size: int = 4")),
    ("a string", SOURCE.replace("so on", "so forth")),
    ("a type", SOURCE.replace("size: int", "size: float")),
    ("an import", SOURCE.replace("import math", "import cmath as math")),
    ("when an error is raised", SOURCE.replace("r < 0", "r <= 0")),
    ("an order", SOURCE.replace("math.pi * r**2", "r**2 * math.pi")),
]


@pytest.mark.parametrize(("what", "source"), SAME)
def test_what_python_does_not_run_does_not_count(what, source):
    assert plans.syntax(source) == plans.syntax(SOURCE)


@pytest.mark.parametrize(("what", "source"), OTHER)
def test_whatever_python_runs_counts(what, source):
    ast.parse(source)
    assert source != SOURCE
    assert plans.syntax(source) != plans.syntax(SOURCE)


def test_a_closure_holds_all_that_its_imports_load():
    """Against Python itself: the modules of the project that a fresh process has after the same imports."""
    roots = ["stages.distill", "stages.methods.cmi", "stages.kinds.classification", "stages.networks.convnet"]
    code = f"import sys, importlib, json; [importlib.import_module(m) for m in {roots}]; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(done.stdout) if name == "stages" or name.startswith("stages.")}
    assert not set(plans.code(roots)) & plans.WITHOUT.keys()
    assert set(plans.code(roots)) | plans.WITHOUT.keys() >= loaded
    assert set(plans.code(roots)) - loaded <= {"stages.networks.resnet", "stages.networks.vgg"}  # none but late imports


def test_a_run_does_not_load_what_it_does_not_name():
    loaded = of_row(params.load(REPOSITORY / "params.yaml"), "kd_ood", "digits").code
    for name in (
        "methods.mosaickd",
        "networks.wrn",
        "networks.generator",
        "kinds.classification.scores",
        "reporting",
        "overview",
    ):
        assert f"stages.{name}" not in loaded
        assert importlib.util.find_spec(f"stages.{name}")  # the name is right
    assert {"stages.engine.loop", "stages.methods.bases.imitation", "stages.networks.convnet"} <= loaded.keys()


def test_what_is_left_out_of_identities_is_there_and_the_seeds_stay_in():
    assert all(importlib.util.find_spec(name) for name in plans.WITHOUT)
    loaded = of_row(params.load(REPOSITORY / "params.yaml"), "kd_ood", "digits").code
    assert {"stages.support.seeds", "stages.settings.rates", "stages.engine.checkpoint"} <= loaded.keys()


def test_an_identity_changes_with_each_part_and_with_nothing_else():
    settings = params.load(REPOSITORY / "params.yaml")
    one = of_row(settings, "mosaickd", "digits")
    assert one.identity == of_row(settings, "mosaickd", "digits").identity
    others = [of_row(settings, "mosaickd_no_local", "digits"), of_row(settings, "mosaickd", "cifar10-wrn")]
    others += [
        plans.Plan({**one.parameters, "run": {}}, one.code),
        plans.Plan(one.parameters, {**one.code, "stages.engine.loop": "0"}),
    ]
    assert len({one.identity, *(other.identity for other in others)}) == 5
    *_, asked, coded = (other.identity for other in others)
    assert asked.endswith(one.identity[6:])  # its parameters are others, its code is not
    assert coded.startswith(one.identity[:6])
    assert plans.Plan(dict(reversed(one.parameters.items())), dict(reversed(one.code.items()))).identity == one.identity


def test_a_file_that_is_not_here_is_known_by_no_identity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"exported": {"path": "teacher.pt2", "sha256": None}}
    missing = plans.Plan({"files": dict(plans._unhashed(content))}, {}).identity
    Path("teacher.pt2").write_bytes(b"1")
    found = plans.Plan({"files": dict(plans._unhashed(content))}, {}).identity
    assert missing[: plans.HALF] == plans.UNKNOWN != found[: plans.HALF]
    assert missing[plans.HALF :] == found[plans.HALF :]


def test_a_stage_by_hand_writes_its_plan_and_refuses_an_older_one(project):
    prepare.main("digits")
    before = Places("digits").plan("prepare").read_text()
    plan.main()
    assert Places("digits").plan("prepare").read_text() == before
    text = Path("params.yaml").read_text()
    project.change("method.kd_ood", tau=3.0)
    changed = Path("params.yaml").read_text()
    project.write(text)
    plan.main()
    project.write(changed)  # behind the back of stage `plan`
    with pytest.raises(
        UserError, match=r"data/plans/digits/kd_ood\.json is older .*; `python -m stages\.plan` or `dvc repro` writes"
    ):
        distill.main("digits", "kd_ood", "0")
