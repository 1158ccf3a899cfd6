import json
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()


def test_the_readme_shows_the_committed_tables():
    table = (REPOSITORY / "results/table.md").read_text().strip()
    shown = README.split("<!-- results/table.md -->")[1].split("<!-- end -->")[0].strip().split("\n\n")
    assert len(shown) >= 5  # titles, tables and the note
    assert all(part in table.split("\n\n") for part in shown)
    assert shown[-1] == table.split("\n\n")[-1]


def test_ci_runs_the_test_command_as_printed():
    command = "python3 -m pip install uv && uv run pytest"
    assert f"    {command}\n" in README
    assert f"\n{command}\n" in (REPOSITORY / ".ci/run").read_text()


def test_every_method_and_default_ablation_is_explained():
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    variants = [f"{name}_{variant}" for name, chosen in content["run"]["ablations"].items() for variant in chosen]
    assert all(f"`{name}`" in README for name in (*content["method"], *variants))


def test_the_method_table_repeats_the_committed_numbers():
    summary = json.loads((REPOSITORY / "results/summary.json").read_text())
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in README.splitlines() if line.count("|") == 8]
    numbered = {(cells[3], cells[0].split("`")[1]): cells[4:] for cells in rows if "`" in cells[0] and cells[-1] != "–"}
    assert {name for task, name in numbered if task == "digits"} == set(summary["digits"]) - {"teacher"}
    for (task, name), cells in numbered.items():
        cost = summary["cost"][task.removesuffix("-student_domain")][name]
        passes, seconds = cost["forwards"] + cost["backwards"], cost["synthesis_s"] + cost["distillation_s"]
        assert cells == [f"{passes / 1000:.0f}", f"{seconds:.0f}", f"{summary[task][name]:.2f}"]


def test_every_source_file_of_a_method_has_its_section():
    files = {path.stem for path in (REPOSITORY / "stages/methods").glob("*.py")} - {"__init__"}
    assert files == set(yaml.safe_load((REPOSITORY / "params.yaml").read_text())["method"])
