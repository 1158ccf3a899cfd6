import json
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()


def test_the_readme_shows_the_committed_table():
    table = (REPOSITORY / "results/table.md").read_text().strip()
    assert README.split("<!-- results/table.md -->")[1].split("<!-- end -->")[0].strip() == table


def test_ci_runs_the_test_command_as_printed():
    command = "python3 -m pip install uv && uv run pytest"
    assert f"    {command}\n" in README
    assert f"\n{command}\n" in (REPOSITORY / ".ci/run").read_text()


def test_every_method_and_default_ablation_is_explained():
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    assert all(f"`{name}`" in README for name in (*content["method"], *content["run"]["ablations"]))


def test_the_method_table_repeats_the_committed_numbers():
    summary = json.loads((REPOSITORY / "results/summary.json").read_text())
    for name, top1 in summary["digits"].items():
        if name != "teacher":
            (row,) = [line for line in README.splitlines() if line.startswith(f"| `{name}`") and line.count("|") == 7]
            cost = summary["cost"]["digits"][name]
            passes, seconds = cost["forwards"] + cost["backwards"], cost["synthesis_s"] + cost["distillation_s"]
            assert [cell.strip() for cell in row.split("|")[4:7]] == [f"{passes / 1000:.0f}", f"{seconds:.0f}", f"{top1:.2f}"]


def test_every_source_file_of_a_method_has_its_section():
    files = {path.stem for path in (REPOSITORY / "stages/methods").glob("*.py")} - {"__init__"}
    assert files == set(yaml.safe_load((REPOSITORY / "params.yaml").read_text())["method"])
