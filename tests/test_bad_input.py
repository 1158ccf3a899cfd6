"""Whatever a user gets wrong gives one clear line that names the key or file and the fix, and leaves earlier outputs alone."""

import csv
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from stages import curate, distill, methods, plan, prepare, train_teacher
from stages.datasets.examples import Examples
from stages.datasets.stamps import notice_changes, stamps
from stages.engine.checkpoint import until_done
from stages.networks import weights
from stages.settings import params, paths
from stages.settings.paths import Places
from stages.support.errors import UserError, run_script
from stages.support.files import replacing_folder, save_tensors, write_json

CASES = [
    ("run", {"task": ["digits"]}, "params.yaml: run.task: unknown key 'task'; did you mean 'tasks'"),
    ("run", {"tasks": ["digit"]}, "params.yaml: run.tasks: unknown task 'digit'; did you mean 'digits'"),
    ("run", {"methods": ["mosaic"]}, "params.yaml: run.methods: unknown method 'mosaic'; did you mean 'mosaickd'"),
    (
        "run",
        {"methods": ["mosaickd_no_locl"]},
        "params.yaml: run.methods: unknown method 'mosaickd_no_locl'; did you mean 'mosaickd_no_local'",
    ),
    ("run", {"methods": ["kd_ood", "kd_ood"]}, "params.yaml: run: `methods` names something twice"),
    ("run", {"seeds": [0, 0]}, "params.yaml: run: `seeds` names something twice"),
    ("run", {"seeds": [-1]}, "params.yaml: run.seeds.0: .*greater than or equal to 0"),
    ("run", {"seeds": []}, "params.yaml: run.seeds: .*at least 1"),
    ("run", {"precision": "fp8"}, "params.yaml: run.precision: .*'auto', 'fp32' or 'bf16'.*'fp8'"),
    ("impress", {"tasks": ["digit"]}, "params.yaml: impress.tasks: unknown task 'digit'; did you mean 'digits'"),
    ("impress", {"tasks": ["digits-letters"]}, "params.yaml: impress.tasks: 'digits-letters' is not among run.tasks; name it"),
    ("impress", {"templates": ["teacher", "random"]}, "params.yaml: impress: `templates` names the teacher and another seed"),
    ("impress", {"templates": ["seed_1", "seed_2"]}, "params.yaml: impress: `templates` names the teacher and another seed"),
    ("impress", {"templates": ["teacher", "seed_1", "seed_1"]}, "params.yaml: impress: `templates` names something twice"),
    ("impress", {"templates": ["teacher", "seed1"]}, "params.yaml: impress.templates.1: .*pattern.*seed1"),
    # What this run changes of its tasks and rows.
    ("distill", {"student_steps": 5}, "params.yaml: distill: unknown key 'distill'"),
    ("*", {"task": {"distil": {"lr": 0.1}}}, "params.yaml: task.distil: unknown key 'distil'; did you mean 'distill'"),
    ("*", {"task": {"distill": {"lr": -0.1}}}, "params.yaml: task.distill.lr: .*greater than 0"),
    ("*", {"method": {"mosaick": {"lr": 0.1}}}, "params.yaml: method: unknown method 'mosaick'; did you mean 'mosaickd'"),
    ("*", {"method": {"kd_ood": {"tua": 1.0}}}, "params.yaml: method.kd_ood.tua: unknown key 'tua'; did you mean 'tau'"),
    ("*", {"method": {"mosaickd": {"local": "high"}}}, "params.yaml: method.mosaickd.local: .*valid number.*'high'"),
    # Variants.
    ("variant", {"mosaickd_x": {"of": "mosaick"}}, "tasks/variants.yaml: mosaickd_x.of: unknown method 'mosaick'; did you mean"),
    ("variant", {"x": {"of": "mosaickd_image"}}, "tasks/variants.yaml: x.of: mosaickd_image is a variant itself"),
    ("variant", {"x": {"local": 0.0}}, "tasks/variants.yaml: x: a variant names its method under `of`"),
    ("variant", {"a row": {"of": "kd_ood"}}, "tasks/variants.yaml: a row: a name is made of letters"),
    ("variant", {"curate": {"of": "kd_ood"}}, "tasks/variants.yaml: curate: a stage has this name already"),
    ("variant.mosaickd_no_local", {"locl": 0.0}, "tasks/variants.yaml: mosaickd_no_local.locl: unknown key 'locl'; did you mean"),
    # Tasks.
    ("digits", {"in_domain": {"source": "topics", "count": 20}}, ": the source 'topics' gives texts"),
    (
        "topics",
        {"ood": {"source": "mixture", "parts": [{"source": "digits"}, {"source": "letters", "count": 9}]}},
        ": the source 'digits' gives images, and the task is of texts",
    ),
    ("topics", {"kind": "classification"}, ": the kind 'classification' wants `image`"),
    ("digits", {"kind": "text"}, ": the kind 'text' wants `text`"),
    ("digits", {"kind": "regression"}, ".kind: unknown kind of task 'regression'; .*classification"),
    ("digits", {"teachr": {}}, ".teachr: unknown key 'teachr'; did you mean 'teacher'"),
    ("digits", {"ood": None}, ".ood: field required"),
    ("cifar10-wrn.ood", {"classes": 7}, r".classes: .*valid list \(it is 7\)"),
    ("digits.curate", {"keep": "confident"}, ".keep: unknown rule 'confident'; did you mean 'confidence'"),
    ("digits.curate", {"keep": "odsd", "protoypes": 3}, ".protoypes: unknown key 'protoypes'; did you mean 'prototypes'"),
    ("digits.curate", {"keep": "odsd", "outlier": -1.0}, ".outlier: .*greater than or equal to 0"),
    ("digits.curate", {"keep": "all", "count": 5}, ".count: all images are kept"),
    ("digits-shift.ood", {"train": 0}, ".train: .*greater than 0"),
    ("digits-shift.ood", {"images": {"source": "fonts"}}, ".images: unknown source 'fonts'; .*font_digits"),
    ("digits-open-random.ood", {"parts": []}, ".parts: .*at least 2"),
    ("digits.image", {"size": 18}, ".size: .*multiple of 4.*18"),
    ("digits.image", {"size": [16, 18]}, ".size.*: .*multiple of 4.*18"),
    ("digits.ood", {"source": "photos"}, ": unknown source 'photos'; .*photographs"),
    ("digits.ood", {"count": 0}, ".count: .*greater than 0"),
    ("digits.teacher", {"network": "convnt_32"}, ".network: network 'convnt_32' is unknown; .*convnet_WIDTH"),
    ("digits.teacher", {"train": None}, ": give either `train`"),
    ("digits.teacher.train", {"epochs": 1.5}, ".epochs: .*integer.*1.5"),
    ("digits.distill", {"student": "wrn16"}, ".student.network: network 'wrn16' is unknown; .*wrnDEPTH_WIDTH"),
    ("digits.distill", {"student": "mobilenet_v3_smal"}, ".student.network: .*'torchvision.mobilenet_v3_small'"),
    ("digits.distill", {"student": "torchvision.resnet1"}, ".student: .*no such network; did you mean 'resnet18'"),
    ("digits.distill", {"lr": -0.1}, ".lr: .*greater than 0"),
    ("digits.distill", {"synthetic_batch": 1}, ".synthetic_batch: .*greater than or equal to 2"),
    # What a task says of methods.
    ("digits.methods", {"mosaikd": {"local": 0.5}}, ".mosaikd: unknown method 'mosaikd'; did you mean 'mosaickd'"),
    ("digits.methods.kd_ood", {"tau": 0.0}, ".tau: .*greater than 0"),
    ("digits.methods.kd_ood", {"tau": float("inf")}, ".tau: .*finite"),
    ("digits.methods.kd_ood", {"schedule": {"step": 5}}, ".schedule.step: unknown key 'step'; did you mean 'steps'"),
    ("digits.methods.mosaickd", {"locl": 1.0}, ".locl: unknown key 'locl'; did you mean 'local'"),
    ("digits.methods.mosaickd", {"local": -1.0}, ".local: .*greater than or equal to 0.*-1.0"),
    ("digits.methods.mosaickd", {"patch": 5}, ".patch: .*1, 2, 4, 10, 18, 22 or 46.*5"),
    ("digits.methods.cmi", {"tau": -20.0}, ".tau: .*greater than 0"),
    ("digits.methods.cmi", {"contrast_tau": 0.0}, ".contrast_tau: .*greater than 0"),
    ("digits.methods.cmi", {"batch": 1}, ".batch: .*greater than or equal to 2"),
    ("digits.methods.fast", {"pool": 1}, ".pool: .*greater than or equal to 2"),
    ("digits.methods.fast", {"momentum": 1.0}, ".momentum: .*less than 1"),
    ("digits.methods.fast", {"meta": "maml"}, ".meta: .*'fomaml' or 'reptile'"),
    ("digits.methods.dfq", {"balance": -20.0}, ".balance: .*greater than or equal to 0"),
    ("digits.methods.deepinversion", {"bank": 9}, ".bank: unknown key 'bank'"),
    ("digits.methods.crd", {"momentum": 1.0}, ".momentum: .*less than 1"),
    ("digits.methods.dfnd", {"accuracy": 1.0}, ".accuracy: .*less than 1"),
    ("digits.methods.augkd", {"schedule": {"lr": 0.1}}, ".schedule: the method has an optimiser of its own"),
    ("digits.methods.augkd", {"invariant": 1.0}, ".invariant: .*less than 1"),
    ("digits.methods.augkd", {"b": 1.5}, ".b: .*less than or equal to 1"),
    ("digits.methods.odsd", {"noise": "top-k"}, ".noise: .*'none', 'topk' or 'adaptation'"),
    ("digits.methods.sskd", {"kept": 1.5}, ".kept: .*less than or equal to 1"),
]
FILES = {"cifar10-wrn": "cifar10-wrn", "topics": "texts"}  # of the tasks that are not in digits.yaml


@pytest.mark.parametrize(("section", "change", "message"), CASES)
def test_a_wrong_parameter_is_named(project, section, change, message):
    """With the file and the key at which it stands."""
    if section == "*":
        for key, value in change.items():
            project.change(f"page.{key}", **value)
    elif section.partition(".")[0] in ("run", "impress", "distill", "variant"):
        project.change(section, **change)
    else:
        project.change(f"task.{section}", **change)
        task = section.partition(".")[0]
        row = section.partition(".methods.")[2]  # none of a task's other sections
        project.change("run", tasks=[task], methods=[row or "fast"])
        message = f"tasks/{FILES.get(task, 'digits')}.yaml: {section}{message}"
    if section.startswith("variant."):
        project.change("run", methods=[section.partition(".")[2]])
    with pytest.raises(UserError) as raised:
        plan.main()
    assert re.match(message, str(raised.value)), str(raised.value)


def test_a_value_that_is_inherited_is_named_where_it_stands(project):
    project.change("task.digits.distill", lr=-1.0)
    project.change("run", tasks=["digits-open-odsd"])
    with pytest.raises(UserError, match=r"^tasks/digits\.yaml: digits\.distill\.lr: .*greater than 0"):
        plan.main()


def test_a_broken_file_ends_a_run_only_if_it_is_needed(project, capsys):
    project.write("mine: [", "tasks/mine.yaml")
    plan.main()
    assert "tasks/mine.yaml is not valid YAML" in (said := capsys.readouterr().out)
    assert "this run does not need it" in said
    project.change("run", tasks=["mine"])
    with pytest.raises(UserError, match=r"run\.tasks: unknown task 'mine'; .*tasks/mine\.yaml is not valid YAML"):
        plan.main()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine: {of: tow}\n", r"tasks/mine\.yaml: mine\.of: unknown task 'tow'"),
        ("mine: {of: two}\ntwo: {of: mine}\n", r"tasks/mine\.yaml: two\.of: 'mine' is of itself"),
        ("mine: [1]\n", r"tasks/mine\.yaml: mine: a task is a section"),
        (
            "mine: {of: digits}\nmine: {of: topics}\n",
            r"tasks/mine\.yaml is not valid YAML: line 2: the key 'mine' stands there twice",
        ),
        ("digits: {of: topics}\n", r"tasks/mine\.yaml: digits: .*tasks/digits\.yaml has a task of this name too"),
        ("cost: {of: digits}\n", r"tasks/mine\.yaml: cost: the tables have this name"),
        ("a b: {of: digits}\n", r"tasks/mine\.yaml: a b: a name is made of letters"),
        ("- mine\n", r"tasks/mine\.yaml is no map of sections"),
    ],
)
def test_a_wrong_task_file_is_named(project, text, message):
    project.write(text, "tasks/mine.yaml")
    project.change("run", tasks=[text.partition(":")[0].strip("- \n")])
    with pytest.raises(UserError, match=message):
        plan.main()


def test_the_committed_parameters_are_right_at_both_scales():
    settings = params.load(Path(__file__).parent.parent / "params.yaml")
    assert settings.run.tasks == ["digits"]
    small = replace(settings, run=settings.run.model_copy(update={"scale": "smoke"}))
    for name in settings.catalogue.tasks:
        assert small.task(name).distill.student_steps <= 10
        for row in settings.rows:
            assert methods.section(settings, row, name)
            assert methods.section(small, row, name)


@pytest.mark.parametrize("value", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_a_number_is_read_as_dvc_reads_it(project, value):
    project.write(f"mine: {{of: digits, methods: {{mosaickd: {{lr: {value}}}}}}}", "tasks/mine.yaml")
    assert methods.section(params.load(), "mosaickd", "mine").lr == 0.001


def test_a_file_that_is_no_yaml_or_missing_is_named(project):
    project.write("run: [")
    with pytest.raises(UserError, match=r"params\.yaml is not valid YAML"):
        params.load()
    Path("params.yaml").unlink()
    with pytest.raises(UserError, match="run from the top folder"):
        params.load()


def test_a_missing_input_says_what_builds_it(project):
    with pytest.raises(UserError, match=r"data/tasks/digits/splits/val\.safetensors is missing; `dvc repro` builds it"):
        train_teacher.main("digits")


def test_students_learn_from_fewer_images_than_a_batch(project, capsys):
    project.change("task.digits.ood", count=20)
    project.teach("digits")
    distill.main("digits", "kd_ood", "0")
    assert "20 examples are fewer than a batch of 32" in capsys.readouterr().out
    assert Places("digits").student("kd_ood", 0).exists()


def test_a_teacher_of_fewer_images_than_a_batch_says_so(project, capsys):
    project.change("run", scale="full")
    project.change("task.digits.ood", count=20)
    project.change("task.digits.teacher.train", epochs=1, batch=10_000)
    prepare.main("digits")
    train_teacher.main("digits")
    said = "tasks/digits.yaml: digits.teacher.train: there are 1132 examples; a batch has as many, not 10000"
    assert said in capsys.readouterr().out


def labelled_folder(top, classes, each=12):
    """Noise images as PATH/CLASS/image.png."""
    rng = np.random.default_rng(0)
    for label in classes:
        (top / label).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(256, size=(16, 16), dtype=np.uint8)).save(top / label / f"{i}.png")
    return {"source": "student_domain", "images": {"source": "folder", "path": str(top)}}


def test_a_student_domain_with_other_classes_than_the_teachers_is_refused(project, tmp_path):
    ood = labelled_folder(tmp_path / "shifted", [*"012345678", "ten"])
    project.change("task.digits", ood=ood)
    with pytest.raises(UserError, match=r"digits\.ood: the student domain has classes 0, .*, ten, the teacher 0, .*, 9; they"):
        prepare.main("digits")


def test_a_student_domain_with_an_empty_class_is_refused(project, tmp_path):
    ood = labelled_folder(tmp_path / "shifted", [*"012345678"])
    (tmp_path / "shifted" / "9").mkdir()
    project.change("task.digits", ood=ood)
    with pytest.raises(UserError, match="the student domain has classes 0, 1, 2, 3, 4, 5, 6, 7, 8, the teacher"):
        prepare.main("digits")
    Image.new("L", (16, 16)).save(tmp_path / "shifted" / "9" / "only.png")
    with pytest.raises(UserError, match=r"digits\.ood\.images: class '9' has 1 examples"):
        prepare.main("digits")
    assert not Places("digits").split("train").exists()


def test_the_layout_of_a_missing_student_domain_is_in_the_message(project):
    project.change("task.visda2017", in_domain={"source": "digits"}, image={"size": 16, "channels": 1})
    with pytest.raises(UserError, match=r"folder data/raw/visda2017/validation is missing; expected PATH/CLASS/image\.png"):
        prepare.main("visda2017")


def test_a_method_that_cannot_run_writes_why_instead_of_a_student(project, capsys):
    project.teach("digits")
    for row in ("augkd", "augkd_no_anchor"):
        distill.main("digits", row, "0")
        folder = Places("digits").student(row, 0)
        assert "`ood: {source: student_domain, ...}`" in json.loads((folder / "run.json").read_text())["why_not"]
        assert [path.name for path in folder.iterdir()] == ["run.json"]
        assert Places("digits").curve(row, 0).exists()
        assert f"{row} does not run on digits: it needs labelled examples" in capsys.readouterr().out


def test_classes_without_an_image_in_the_pool_are_counted(project, capsys):
    project.change("task.digits", curate={"keep": "confidence", "count": 3})
    project.teach("digits")
    empty = 10 - len(set(seen_in_pool("digits")))
    assert empty >= 7
    assert f"the teacher takes no image of the pool for {empty} of 10 classes" in capsys.readouterr().out


def seen_in_pool(task):
    """The classes that the teacher sees in the pool, out of its list of images."""
    return [row["predicted"] for row in listed_in_pool(task)]


def split_sizes(task):
    return [len(Examples.load(Places(task).split(part))) for part in ("train", "val", "test")]


def listed_in_pool(task):
    with (Places(task).pool / "index.csv").open() as file:
        return list(csv.DictReader(file))


def test_labels_are_for_scoring_where_the_teacher_is_imported_and_the_pool_names_its_files(project, tmp_path):
    """A user with 90 labelled images, a teacher, and a folder of others."""
    labelled_folder(tmp_path / "mine", "abc", 30)
    labelled_folder(tmp_path / "others", ["x"], 9)
    project.change("run", scale="full")
    project.change("task.digits", in_domain={"source": "folder", "path": str(tmp_path / "mine")})
    others = {"source": "folder", "path": str(tmp_path / "others"), "pack_gb": 1e-9}
    project.change("task.digits", ood=others, curate={"keep": "random"})
    prepare.main("digits")
    assert split_sizes("digits") == [57, 6, 27]
    train_teacher.main("digits")
    curate.main("digits")
    assert len(kept := {row["file"] for row in listed_in_pool("digits")}) == 5  # half of them
    assert kept <= {f"{tmp_path}/others/x/{i}.png" for i in range(9)}
    assert not Examples.load(Places("digits").split("ood")).packed
    pool = Examples.load(Places("digits").pool / "pool.safetensors")  # few enough to be packed
    assert torch.equal(pool.input, torch.cat(list(replace(pool, columns={"index": pool.index}).batches(2))))

    import_teacher(project, Places("digits").teacher / "weights.safetensors")
    prepare.main("digits")
    assert split_sizes("digits") == [21, 15, 54]
    project.change("task.digits", split={"test": 0.5, "val": 0.5})
    prepare.main("digits")
    assert split_sizes("digits") == [21, 24, 45]


def test_test_images_in_the_pool_are_reported(project, capsys):
    """A pool of the task's own images: of each, the test part must be found again."""
    project.change("run", scale="full")
    project.change("task.digits.teacher.train", epochs=1)
    project.change("task.digits", ood={"source": "digits"}, curate={"keep": "all"})
    project.teach("digits")
    facts = json.loads((Places("digits").pool / "summary.json").read_text())
    assert facts["near_duplicates_of_test"] >= 539
    assert f"warning: {facts['near_duplicates_of_test']} images of the pool are, or nearly are" in capsys.readouterr().out


def import_teacher(project, file, **changes):
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    weights = {"path": str(file), "sha256": digest, "mean": [0.3], "std": [0.35]} | changes
    project.change("task.digits.teacher", train=None, weights=weights)


@pytest.mark.learned
def test_an_imported_teacher_is_checked_before_anything_is_distilled_from_it(project, tmp_path):
    project.change("run", scale="full")
    project.change("task.digits.teacher.train", epochs=5)
    prepare.main("digits")
    train_teacher.main("digits")
    card = (Places("digits").teacher / "card.json").read_text()
    good = load_file(Places("digits").teacher / "weights.safetensors")
    file = tmp_path / "mine.safetensors"

    save_file(good, file)
    import_teacher(project, file, sha256="0" * 64)
    with pytest.raises(
        UserError,
        match=r"mine\.safetensors has sha256 [0-9a-f]{64}, and `tasks/digits\.yaml: digits\.teacher\.weights\.sha256` says 0{64}",
    ):
        train_teacher.main("digits")

    for name, message in (
        (
            "head.weight",
            r"answers for 5 classes, and the task has 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; give images of each",
        ),
        ("features.0.weight", r"does not fit the network.*'features.0.weight' is \(5, 1, 3, 3\), not \(32, 1, 3, 3\)"),
    ):
        save_file({**good, name: good[name][:5].contiguous()}, file)
        import_teacher(project, file)
        with pytest.raises(UserError, match=message):
            train_teacher.main("digits")

    save_file({"other": good["head.bias"]}, file)
    import_teacher(project, file)
    with pytest.raises(UserError, match=r"no 'features.0.weight'.*and \d+ more"):
        train_teacher.main("digits")

    save_file({**good, "head.weight": good["head.weight"].roll(1, 0).contiguous(), "head.bias": good["head.bias"].roll(1)}, file)
    import_teacher(project, file)
    with pytest.raises(UserError, match=r"guessing .*classes are in the order 0, 1, 2, 3"):
        train_teacher.main("digits")

    file.write_bytes(b"no tensors")
    import_teacher(project, file)
    with pytest.raises(UserError, match="cannot be read as a safetensors"):
        train_teacher.main("digits")

    import_teacher(project, file, path="nowhere.pt")
    with pytest.raises(UserError, match=r"weights nowhere\.pt are missing"):
        train_teacher.main("digits")
    assert (Places("digits").teacher / "card.json").read_text() == card

    wrapped = tmp_path / "mine.pt"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in good.items()}}, wrapped)
    import_teacher(project, wrapped)
    train_teacher.main("digits")
    assert "imported from" in (Places("digits").teacher / "card.json").read_text()


def run(folder, *command):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_command_line_gives_one_line_and_a_status(project):
    project.change("task.digits.ood", cuont=10)
    done = run(project.folder, "stages.prepare", "digits")
    assert done.returncode == 1
    assert done.stderr.strip() == "error: tasks/digits.yaml: digits.ood.cuont: unknown key 'cuont'; did you mean 'count'?"
    done = run(project.folder, "stages.distill", "digits")
    assert done.returncode == 2
    assert "TASK METHOD SEED" in done.stderr


def test_an_output_that_cannot_be_written_is_named_and_the_old_one_stays(project):
    """A disk that fills up in the middle of a file: RLIMIT_FSIZE makes the kernel refuse the rest of the write."""
    prepare.main("digits")
    target = Places("digits").split("ood")
    before = target.read_bytes()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); sys.argv = ['prepare', 'digits'];"
        "import runpy; runpy.run_module('stages.prepare', run_name='__main__')"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=project.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "a file may not be so large there" in done.stderr
    assert target.read_bytes() == before
    assert not list(target.parent.glob(".*.tmp"))


def test_a_stage_without_its_inputs_says_who_builds_them(project):
    done = run(project.folder, "stages.evaluate", "digits")
    assert done.returncode == 1
    assert done.stderr.strip() == "error: data/tasks/digits/test/test.safetensors is missing; `dvc repro` builds it"
    done = run(project.folder, "stages.distill", "digits", "kd_ood", "0")
    assert done.returncode == 1
    assert done.stderr.strip() == "error: models/teachers/digits/weights.safetensors is missing; `dvc repro` builds it"


def test_an_input_that_is_damaged_is_named_with_the_stage_that_makes_it(project):
    """Cut short, empty, a bit turned round, of another make: none is read, and the line says what builds it anew."""
    prepare.main("digits")
    train_teacher.main("digits")
    made = {"train_teacher@digits": {"outs": [{"path": "models/teachers/digits"}]}}
    (project.folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": made}))
    teacher, ood = Places("digits").teacher / weights.WEIGHTS, Places("digits").split("ood")
    for path, command in ((teacher, "dvc repro train_teacher@digits"), (ood, "dvc repro")):
        good = path.read_bytes()
        flipped = [
            bytes([*good[:place], good[place] ^ 16, *good[place + 1 :]]) for place in (3, 40, len(good) // 2, len(good) - 1)
        ]
        for broken in (b"", b"half a file", good[:-10], good[:100], *flipped):
            path.write_bytes(broken)
            with pytest.raises(
                UserError, match=rf"{path} is damaged \(.*\); restore it, or remove it, and `{command}` builds it"
            ):
                curate.main("digits")
        save_file({"a": torch.zeros(3)}, path)
        with pytest.raises(UserError, match=rf"{path} is damaged"):
            curate.main("digits")
        path.write_bytes(good)
    curate.main("digits")
    for broken in ("", "{", "[]"):
        (Places("digits").pool / "summary.json").write_text("{}")
        overlap = Places("digits").overlap
        overlap.write_text(broken)
        with pytest.raises(UserError, match=rf"{overlap} is damaged"):
            curate.main("digits")


def test_a_file_of_pickled_objects_is_refused_with_the_way_to_save_tensors(project, tmp_path):
    prepare.main("digits")
    torch.save({"net": params.Run}, tmp_path / "mine.pt")
    import_teacher(project, tmp_path / "mine.pt")
    with pytest.raises(UserError, match=r"mine\.pt holds Python objects.*torch\.save\(net\.state_dict\(\), path\)$"):
        train_teacher.main("digits")


def test_two_processes_are_not_at_one_run(project):
    prepare.main("digits")
    with until_done("one", params.load().run, 0) as checkpoint:
        assert list(paths.CHECKPOINTS.iterdir()) == [checkpoint.folder]
        code = (
            "from stages.engine.checkpoint import until_done; from stages.settings import params\n"
            "from stages.support.errors import run_script\n"
            "def main():\n    with until_done('one', params.load().run, 0): pass\n"
            "run_script(main)"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run([sys.executable, "-c", code], cwd=project.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.strip() == (
            "error: another process is at this very run and holds .cache/checkpoints/one; wait for it, or end it"
        )
    assert not list(paths.CHECKPOINTS.iterdir())


def test_what_a_file_system_does_not_know_of_a_folder_ends_no_run(project, monkeypatch):
    """Shared folders of virtual machines know no fsync of a folder, and some network mounts no locks."""
    flush = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(fcntl, "flock", flock)
    write_json(Path("kept/file.json"), {"a": 1})
    with replacing_folder(Path("folder")) as new, until_done("one", params.load().run, 0):
        (new / "file").write_text("x")
    assert Path("kept/file.json").exists()
    assert Path("folder/file").read_text() == "x"

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(Path("kept/other.json"), {})


def test_numbers_that_begin_with_nought_are_names_in_quotes(project):
    project.write("mine: {of: digits, classes: [007, 008]}\n", "tasks/mine.yaml")
    project.change("run", tasks=["mine"])
    with pytest.raises(UserError, match=r"tasks/mine\.yaml is not valid YAML: line 1: 007 begins with 0; put it in quotes"):
        params.load()


def test_a_network_that_cannot_take_the_images_is_refused_and_costs_are_told(project, capsys):
    project.change("task.digits.image", size=64, channels=3)
    project.change("task.digits.teacher", network="torchvision.resnet18")
    project.change("task.digits.distill", student="resnet18")
    plan.main()
    said = capsys.readouterr().out
    assert "torchvision.resnet18 11,181,642 parameters, 148,0" in said
    assert "student resnet18 11,173,962 parameters, 2,221,6" in said
    assert "the student is dearer than the teacher" in said
    project.change("task.digits.distill", student="torchvision.vit_b_16")
    with pytest.raises(
        UserError, match=r"tasks/digits.yaml: digits\.distill\.student: 'torchvision.vit_b_16' takes no images of 64 x 64"
    ):
        plan.main()


def test_a_network_is_tried_at_the_crop_that_it_is_trained_on(project):
    project.change("run", tasks=["digit_scenes"])
    project.change("task.digit_scenes.image", crop=20)  # 32 pixels are halved three times, 20 are not
    with pytest.raises(UserError, match=r"tasks/segmentation.yaml: digit_scenes\.teacher: 'unet_16' takes no images of 20 x 20"):
        plan.main()


def test_answers_are_to_images_of_one_label(project):
    project.change("run", tasks=["digit_scenes"])
    project.change("task.digit_scenes", teacher={"answers": "answers.csv"})
    with pytest.raises(UserError, match=r"digit_scenes\.teacher.*an answer is to an input of one label, which 'segmentation'"):
        plan.main()


def test_one_of_several_teachers_beside_a_teacher_is_refused(project):
    one = {"classes": ["0"], "network": "convnet_4", "train": project.section("digits")["teacher"]["train"]}
    project.change("task.digits", teachers=[one])
    with pytest.raises(UserError, match="give either `teacher`, or `teachers`"):
        plan.main()


def test_what_is_missing_is_named_by_libraries_too(monkeypatch, capsys):
    """fsspec raises FileNotFoundError with the path as its only word."""
    monkeypatch.setattr(sys, "argv", ["here"])

    def fail():
        raise FileNotFoundError("bucket/one.tar")

    with pytest.raises(SystemExit):
        run_script(fail)
    assert "error: bucket/one.tar is missing" in capsys.readouterr().err


def test_a_list_of_classes_that_was_edited_is_noticed(tmp_path, capsys):
    names, read = tmp_path / "names.txt", tmp_path / "sources.json"
    names.write_text("cat")
    write_json(read, stamps({"in_domain": {"source": "folder", "path": "nowhere", "classes": str(names)}}))
    notice_changes(read, "mine")
    assert not capsys.readouterr().err
    names.write_text("cat\ndog")
    notice_changes(read, "mine")
    assert f"{names} is not as `prepare` read it; `dvc repro -f prepare@mine` reads it again" in capsys.readouterr().err


def test_a_folder_of_outputs_changes_as_a_whole(tmp_path):
    folder = tmp_path / "made"
    with replacing_folder(folder) as new:
        (new / "a").write_text("one")
    (tmp_path / ".made.old.tmp").mkdir()  # what a killed run left

    def fail():
        with replacing_folder(folder) as new:
            (new / "b").write_text("two")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "a"]
    with replacing_folder(folder) as new:
        (new / "b").write_text("two")
        assert (folder / "a").read_text() == "one"
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "b"]


@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_weights_have_the_rights_of_the_users_other_files(tmp_path, mask, rights):
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(3)})
        assert os.umask(mask) == mask  # as it was
    finally:
        os.umask(before)
    assert (tmp_path / "weights.safetensors").stat().st_mode & 0o777 == rights
