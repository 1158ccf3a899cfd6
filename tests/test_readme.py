"""README's tables: what writes them, held against committed fixtures; and what README says of the code beside it."""

import json
import re
import shutil
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from dvc.utils.hydra import apply_overrides

from stages import methods, overview
from stages.methods._described import described
from stages.networks import weights
from stages.settings import params, paths, plans
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.tools import pages
from tests.clones import REPOSITORY
from tests.small import setting
from tests.tables import rows_of

FIXTURES = Path(__file__).parent / "fixtures"
README = (REPOSITORY / "README.md").read_text()
DOCS = {path.stem: path.read_text() for path in sorted((REPOSITORY / "docs").glob("*.md"))}
PAGES = {"README": README, **DOCS}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The fixtures where a run would have left them."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURES / "tasks", Places("").report().parent)
    paths.identities().parent.mkdir(parents=True)
    shutil.copy(FIXTURES / "identities.json", paths.identities())
    shutil.copytree(FIXTURES / "catalogue", "tasks")
    for name in ("params.yaml", "README.md"):
        shutil.copy(FIXTURES / name, name)
    overview.main()
    return tmp_path


@contextmanager
def edited():
    """What was reported of digits, to be changed; the tables are written anew at the end."""
    path = Places("digits").report()
    content = json.loads(path.read_text())
    yield content["rows"]
    path.write_text(json.dumps(content))
    overview.main()


LAST = "What the columns mean"


def section(title):
    text = (paths.RESULTS / "table.md").read_text()
    return text.split(f"### {title}\n")[1].split("###")[0].split("top-1: accuracy")[0].rstrip()


def test_the_version_is_one():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert cited["version"] == version
    latest = re.search(r"^## ([\d.]+), (.+)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest[1] == version
    assert latest[2] == f"{cited['date-released']:%-d %B %Y}"


def test_means_intervals_gains_and_marks(results):
    """By hand: half intervals 4.303 * 3.606 / sqrt(3) and 12.706 * 7.071 / sqrt(2); gains 90 - 40 and 92 - 50."""
    table = rows_of(section("digits"))
    assert list(table) == [
        "teacher",
        "kd_in_domain † ‡",
        "kd_ood",
        "mosaickd",
        "augkd",
        "gone ‡",
    ]  # bounds, then blind distillation, then MosaicKD
    assert [table["mosaickd"][key] for key in ("top-1 %", "± 95 %", "n", "gain")] == [
        "93.00",
        "8.96",
        "3",
        "46.0",
    ]  # over the two seeds of blind distillation
    assert [table["kd_ood"][key] for key in ("top-1 %", "± 95 %", "n", "gain")] == ["45.00", "63.53", "2", "0.0"]
    assert table["mosaickd"]["FD"] == "6.00"
    assert "images, k 48.0" in section("digits").partition("|")[0]  # as all that make some
    assert (table["augkd"]["top-1 %"], table["augkd"]["n"]) == ("n/a", "–")
    assert table["teacher"]["gain"] == table["teacher"]["± 95 %"] == "–"
    assert "n/a: `augkd` needs labelled examples of the student's domain" in section("digits")
    assert "Made on A CPU, 2 threads, AVX2, torch 2.11.0, revision abc123def." in section("digits")


def test_a_row_is_older_where_anything_that_it_stands_on_is_other(results):
    assert list(rows_of(section("shift"))) == ["teacher ‡", "kd_ood ‡"]  # its data is prepared otherwise now
    assert "no number of kd_ood means anything" in section("shift")


def test_seconds_are_those_of_one_device(results):
    with edited() as rows:
        seeds = rows["mosaickd"]["seeds"]
        for seed, found in seeds.items():
            found["distillation_s"] = 10.0 + int(seed)
        seeds["2"]["distillation_s"], seeds["2"]["made"]["device"] = 1000.0, "A GPU"
    assert rows_of(section("digits"))["mosaickd"]["distil. s"] == "10.5"


def test_a_row_that_was_tested_on_other_images_has_no_gain(results):
    with edited() as rows:
        for found in rows["mosaickd"]["seeds"].values():
            found["made"]["identity"]["prepare"] = "other"
    assert rows_of(section("digits"))["mosaickd ‡"]["gain"] == "–"


@pytest.mark.parametrize(
    ("today", "told", "mark"),
    [
        ("aaaaaabbbbbb", "aaaaaabbbbbb", ""),
        ("aaaaaabbbbbb", "aaaaaacccccc", " °"),
        ("aaaaaabbbbbb", "ccccccbbbbbb", " ‡"),
        ("aaaaaabbbbbb", "ccccccdddddd", " ‡"),
        (f"{plans.UNKNOWN}bbbbbb", "ccccccbbbbbb", ""),  # of a user's file that is not here
        (f"{plans.UNKNOWN}bbbbbb", "ccccccdddddd", " °"),
    ],
)
def test_other_code_is_told_from_other_parameters(results, today, told, mark):
    now = json.loads(paths.identities().read_text())
    now["full"]["digits"]["rows"]["mosaickd"] = today
    paths.identities().write_text(json.dumps(now))
    with edited() as rows:
        for found in rows["mosaickd"]["seeds"].values():
            found["made"]["identity"]["distill"] = told
    assert f"mosaickd{mark}" in rows_of(section("digits"))


def test_a_student_of_another_teacher_is_marked(results):
    with edited() as rows:
        rows["teacher"]["seeds"]["0"]["made"]["weights"] = "a"
        for row, teacher in (("kd_ood", "a"), ("mosaickd", "b")):
            for found in rows[row]["seeds"].values():
                found["made"]["teacher"] = teacher
    assert {"kd_ood", "mosaickd ‡"} <= set(rows_of(section("digits")))


def test_a_variant_that_the_code_no_longer_takes_keeps_its_row(results):
    """Of a method that has lost a key, and of one that is no more: marked, described, and no end of the tables."""
    with edited() as rows:
        for row, of in (("long", {"of": "mosaickd", "lost": 2}), ("strange", {"of": "nothing"})):
            rows[row] = {**rows["mosaickd"], "of": of}
    assert {"long ‡", "strange ‡"} <= set(rows_of(section("digits")))


def test_a_schedule_of_its_own_is_marked_and_said(results):
    with edited() as rows:
        own = {"steps": [196000, 80000], "lr": [0.1, 0.2], "augment": [{"crop": 4, "flip": True}, {"crop": 0, "flip": False}]}
        own["rate"] = ["cosine", {"at": [0.4, 0.8], "by": 0.1}]
        for found in rows["mosaickd"]["seeds"].values():
            found["made"]["schedule"] = own
    assert "mosaickd §" in rows_of(section("digits"))
    said = "steps 80,000 (196,000), lr 0.2 (0.1), augment none (crop 4 flip True), rate at 0.4, 0.8 by 0.1 (cosine)"
    assert f"§ `mosaickd` {said}." in section("digits")


def test_tasks_of_several_kinds_stand_beside_each_other_by_their_own_scores(tmp_path):
    lines = [
        "task,method,headline,top1,miou,ci95,n,marks",
        "a,kd_ood,top1,50.126,,1.5,3,",
        "b,kd_ood,miou,,20.5,,1,‡",
        "b,gone,miou,,,,0,",
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    table = rows_of(pages.beside(tmp_path / "table.csv", ["a", "b"], ["kd_ood"]))
    assert table["kd_ood"] == {"row": "kd_ood", "a": "50.13 ± 1.50 (n=3)", "b": "20.50 (n=1) ‡"}
    alone = pages.beside(tmp_path / "table.csv", ["b"], ["kd_ood", "mosaickd"])  # a mark on every row says no more than a line
    assert rows_of(alone)["kd_ood"] == {"row": "kd_ood", "b": "20.50 (n=1)"}
    assert alone.endswith("\n\nAll of these were made by other code or parameters than now (‡).")


def test_paired_differences_are_over_the_seeds_that_both_rows_have(results):
    """By hand: seeds 0 and 1 differ by a and b; half of the interval of two is 12.706 |a - b| / 2."""
    rows = json.loads(Places("digits").report().read_text())["rows"]
    one, other = (rows[name]["seeds"] for name in ("mosaickd", "kd_ood"))
    a, b = (one[seed]["top1"] - other[seed]["top1"] for seed in "01")
    page = results / "page.md"
    page.write_text("<!-- paired: digits: mosaickd - kd_ood, kd_ood - kd_ood -->\nold\n<!-- end -->\n")
    pages.main("page.md")
    table = rows_of(page.read_text())
    assert table["mosaickd - kd_ood"]["digits"] == f"{(a + b) / 2:+.2f} ± {12.7062 * abs(a - b) / 2:.2f}"
    assert table["kd_ood - kd_ood"] == {"difference, points": "kd_ood - kd_ood", "digits": "+0.00 ± 0.00", "n": "2"}
    page.write_text("<!-- paired: digits: mosaikd - kd_ood -->\n<!-- end -->\n")
    with pytest.raises(UserError, match="no seeds of 'mosaikd'; did you mean 'mosaickd'"):
        pages.main("page.md")


def test_over_teachers_means_and_differences_are_of_tasks(results):
    """Two tasks that differ in the teacher: of each the mean over its seeds, by hand; half of the interval of two as above."""
    first = json.loads(Places("digits").report().read_text())
    second = json.loads(json.dumps(first))
    for row, more in (("mosaickd", 1.0), ("kd_ood", 4.0)):
        for found in second["rows"][row]["seeds"].values():
            found["top1"] += more
    Places("digits-teacher-1").report().write_text(json.dumps(second))
    page = results / "page.md"
    page.write_text(
        "<!-- teachers: digits + digits-teacher-1: mosaickd, kd_in_domain, odsd -->\n<!-- end -->\n"
        "<!-- paired: digits + digits-teacher-1: mosaickd - kd_ood -->\n<!-- end -->\n"
    )
    pages.main("page.md")
    means, differences = page.read_text().split("<!-- end -->")[:2]
    half = 12.7062 / 2
    table = rows_of(means)
    assert table["mosaickd"]["digits"] == f"93.50 ± {half * 1.0:.2f} (n=2)"
    assert table["kd_in_domain"]["digits"].endswith("± 0.00 (n=2) †")
    assert table["odsd"]["digits"] == "–"
    one, other = (first["rows"][row]["seeds"] for row in ("mosaickd", "kd_ood"))
    both = sum(one[seed]["top1"] - other[seed]["top1"] for seed in "01") / 2
    found = rows_of(differences)["mosaickd - kd_ood"]
    assert found == {"difference, points": "mosaickd - kd_ood", "digits": f"{both - 1.5:+.2f} ± {half * 3.0:.2f}", "n": "2"}


def test_a_students_domain_has_a_table_of_its_own(results):
    table = rows_of(section("shift-student_domain"))
    assert table["kd_ood ‡"]["top-1 %"] == "70.00"
    assert list(rows_of(section("Tasks beside each other"))) == ["teacher", "kd_ood"]
    assert (paths.RESULTS / "table.csv").read_text().splitlines()[0].startswith("task,method,marks,headline,top1")


def test_tasks_of_the_run_come_first_and_they_alone_stand_beside_each_other(results):
    def titles():
        lines = (paths.RESULTS / "table.md").read_text().splitlines()
        return [line.removeprefix("### ") for line in lines if line.startswith("#")]

    assert titles() == ["Tasks beside each other", "digits", "shift", "shift-student_domain", LAST]
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("[digits, shift]", "[shift]"))
    overview.main()
    assert titles() == ["Tasks beside each other", "shift", "shift-student_domain", "digits", LAST]
    columns = rows_of(section("Tasks beside each other"))["teacher"]
    assert list(columns) == ["method", "shift, top-1 %", "shift-student_domain, top-1 %"]


def test_the_parts_between_the_marks_are_written_and_nothing_else(results):
    pages.main("README.md")
    written = Path("README.md").read_text()
    first, second = (part.split("<!-- end")[0] for part in written.split("-->\n")[1::2])
    assert list(rows_of(first)) == ["teacher", "kd_ood"]
    assert list(rows_of(second)) == ["`kd_in_domain` †", "`fitnet`"]
    assert written.startswith("# A page\n\nBefore.\n")
    assert "\n\nBetween.\n\n" in written
    assert written.endswith("\n\nAfter.\n")
    pages.main("README.md")
    assert Path("README.md").read_text() == written


def test_the_table_of_methods_says_what_each_asks_for(results):
    table = rows_of(pages.table(params.load(), params.method_names()))
    seen = {row.split("`")[1]: (line["sees"], line["asks of the teacher"], line["variants"]) for row, line in table.items()}
    expected = {
        "kd_in_domain": ("in-domain images", "answers at any time", ""),
        "kd_ood": ("the OOD pool", "–", ""),
        "mosaickd": ("the OOD pool", "gradients", "`mosaickd_no_local`"),
        "fitnet": ("the OOD pool", "a known last layer, named stages", ""),
        "augkd": ("labelled student domain", "batch normalisation, gradients", "`augkd_labels_only`"),
    }
    assert {row: seen[row] for row in expected} == expected
    assert described(params.load(), "mosaickd_no_local") == "`mosaickd` with local 0.0"
    assert "[arXiv:2110.15094](https://arxiv.org/abs/2110.15094)" in table["`mosaickd`"]["what it is"]
    assert "`kd_in_domain` †" in table


def test_chosen_rows_stand_beside_each_other_by_task(results):
    Path("PAGE.md").write_text("<!-- rows: digits, shift: teacher, mosaickd, kd_in_domain, kd_ood, odsd -->\n<!-- end -->\n")
    pages.main("PAGE.md")
    table = rows_of(Path("PAGE.md").read_text())
    digits = rows_of(section("digits"))
    assert list(table) == ["teacher", "mosaickd", "kd_in_domain", "kd_ood", "odsd"]
    assert table["mosaickd"] == {"row": "mosaickd", "digits": "93.00 ± 8.96 (n=3)", "shift": "–"}
    assert table["kd_in_domain"]["digits"].endswith("† ‡")
    assert table["kd_ood"]["shift"].endswith("‡")
    assert table["teacher"]["digits"] == digits["teacher"]["top-1 %"]
    assert table["odsd"] == {"row": "odsd", "digits": "–", "shift": "–"}
    Path("PAGE.md").write_text("<!-- rows: digit: kd_ood -->\n<!-- end -->\n")
    with pytest.raises(UserError, match="no task 'digit'; it has"):
        pages.main("PAGE.md")


def test_the_tables_of_methods_are_those_of_the_code():
    """Every method stands in one of them."""
    settings, named = params.load(REPOSITORY / "params.yaml"), []
    for _, what, rows, text, _ in pages.MARK.findall(DOCS["methods"]):
        names = rows.split(", ")
        assert text.strip() == (pages.table(settings, names) if what == "methods" else pages.makes(settings))
        named += names if what == "methods" else []
    assert sorted(named) == sorted(params.method_names())


def test_the_task_to_begin_with_stands_in_the_file_beside_it():
    listed = re.findall(r"^\| \[[\w-]+\]\(\.\./(tasks/.+?)\) \|.*?\| `([\w-]+)` \|", DOCS["configuration"], re.MULTILINE)
    assert len(listed) == len({file for file, _ in listed}) >= 9
    assert all(name in yaml.safe_load((REPOSITORY / file).read_text()) for file, name in listed)


def test_readme_is_read_in_two_minutes():
    assert len(README.splitlines()) <= 160
    assert len(README.split()) <= 1500


def test_readmes_method_is_one_that_is_there():
    assert f"```python\n{(REPOSITORY / 'stages/methods/kd_ood.py').read_text()}```" in README


@pytest.mark.parametrize("page", ["README.md", "docs/*.md", "results/README.md", "results/past/*.md"])
def test_links_lead_somewhere(page):
    """To files, and to headings of the same page or another."""
    found = [(file, link) for file in REPOSITORY.glob(page) for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text())]
    assert found
    for file, link in found:
        if link.startswith("http"):
            continue
        name, _, heading = link.partition("#")
        path = file.parent / name if name else file
        assert path.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link


def commands(text):
    """The commands of a page, one a line."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("uv run")]


def test_every_experiment_names_its_targets():
    """Without one, `dvc exp run` removes the students that today's matrix has not."""
    experiments = [line for text in PAGES.values() for line in commands(text) if "dvc exp run" in line]
    assert len(experiments) > 10
    assert all(line.endswith((" overview", " overview impress", " overview export", "--run-all")) for line in experiments), (
        experiments
    )


def test_every_override_of_the_docs_is_one_that_dvc_takes(tmp_path):
    """Of keys that are there, and a + before those that are not; tasks and methods are known."""
    settings = params.load(REPOSITORY / "params.yaml")
    known = {*settings.rows, "hard", "hard_sharp"}
    found = [word for text in PAGES.values() for line in commands(text) for word in re.findall(r"-S '?([^'\s]+)'?", line)]
    assert len(found) > 15
    for override in found:
        shutil.copy(REPOSITORY / "params.yaml", file := tmp_path / "params.yaml")
        key, _, value = override.partition("=")
        apply_overrides(file, [f"{key}={value.split(',')[0]}" if "[" not in value else override])
        names = value.strip("[]").split(",")
        assert key != "run.methods" or set(names) <= known
        assert key != "run.tasks" or set(names) <= {*settings.catalogue.tasks, "mine"}


def test_ci_runs_the_test_command_as_printed():
    command = "python3 -m pip install uv && uv run --all-groups pytest"
    assert f"    {command}\n" in README
    assert f"\n{command}\n" in (REPOSITORY / ".ci/run").read_text()


def test_the_first_command_is_the_main_job():
    assert "    python3 -m pip install uv && uv run dvc repro\n" in README


def test_every_room_says_in_one_line_what_it_is():
    rooms = [path for path in (REPOSITORY / "stages").iterdir() if path.is_dir() and not path.name.startswith("__")]
    contract = (REPOSITORY / "pyproject.toml").read_text()
    for room in rooms:
        assert (room / "__init__.py").read_text().startswith('"""')
        assert re.search(rf'[" ]{room.name}",', contract)


def tasks_of_docs():
    blocks = [(page, block) for page, text in PAGES.items() for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    return [(page, block) for page, block in blocks if "in_domain" in block or "teacher" in block]


@pytest.mark.parametrize(("page", "block"), tasks_of_docs(), ids=[page for page, _ in tasks_of_docs()])
def test_the_tasks_that_pages_show_are_ones_that_run(page, block, tmp_path):
    """Put into a file of their own, as the pages say."""
    shutil.copytree(REPOSITORY / "tasks", tmp_path / "tasks")
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    (tmp_path / "tasks/mine.yaml").write_text(block.replace("...", "a" * 64))
    settings = params.load(tmp_path / "params.yaml")
    (name,) = yaml.safe_load(block)
    assert settings.task(name).distill.student_steps
    for row in settings.run.methods:
        assert methods.section(settings, row, name)
    if page == "README":
        assert methods.section(settings, "mosaickd", name) == methods.section(settings, "mosaickd", "cifar10-small")


def test_the_method_that_docs_show_trains(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", DOCS["architecture-and-contributing"], re.DOTALL)
    exec(block, found := {"__name__": "hard"})
    method = found["Method"](setting(), found["Method"].Params(sharpness=2.0))
    before = [parameter.clone() for parameter in method.student.parameters]
    assert torch.isfinite(method.step()["loss"])
    assert any(not torch.equal(*pair) for pair in zip(before, method.student.parameters, strict=True))


def test_a_student_is_loaded_as_docs_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blueprint = weights.Blueprint("torchvision.mobilenet_v3_small", tuple("abc"), (3, 64, 64), [0.4, 0.5, 0.6], [0.2, 0.3, 0.2])
    net, images = blueprint.build().eval(), torch.rand(2, 3, 64, 64)
    weights.save(Places("mine").student("kd_ood", 0), blueprint, net, images[:1], {})
    (code,) = [part.split("```")[0] for part in DOCS["own-task"].split("```python\n")[1:] if "load_file" in part]
    exec(code, found := {"images": images})
    assert torch.allclose(found["logits"], net(images), atol=1e-5)
