"""Whatever a user gets wrong gives one clear line that names the key or file and the fix, and leaves earlier outputs alone."""

import csv
import hashlib
import json
import os
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
from stages.settings.params import Params
from stages.support.errors import UserError
from stages.support.files import replacing_folder, write_json

CASES = [
    ("run", {"task": ["digits"]}, "run: unknown key 'task'; did you mean 'tasks'"),
    ("run", {"tasks": ["digit"]}, "run.tasks: unknown task 'digit'; did you mean 'digits'"),
    ("task.digits", {"in_domain": {"source": "topics", "count": 20}}, "task.digits: the source 'topics' gives texts"),
    (
        "task.topics",
        {"ood": {"source": "mixture", "parts": [{"source": "digits"}, {"source": "letters", "count": 9}]}},
        "task.topics: the source 'digits' gives images, and the task is of texts",
    ),
    ("task.topics", {"kind": "classification"}, "task.topics: the kind 'classification' wants `image`"),
    ("task.digits", {"kind": "text"}, "task.digits: the kind 'text' wants `text`"),
    ("run", {"methods": ["mosaic"]}, "run.methods: unknown method 'mosaic'; did you mean 'mosaickd'"),
    (
        "run",
        {"methods": ["mosaickd_no_locl"]},
        "run.methods: unknown method 'mosaickd_no_locl'; did you mean 'mosaickd_no_local'",
    ),
    ("run", {"methods": ["kd_ood", "kd_ood"]}, "run: `methods` names something twice"),
    ("method", {"mosaickd_x": {"of": "mosaick"}}, "method.mosaickd_x.of: unknown method 'mosaick'; did you mean 'mosaickd'"),
    ("method", {"x": {"of": "mosaickd_image"}}, "method.x.of: mosaickd_image is a variant itself"),
    ("method", {"x": {"of": "mosaickd", "locl": 0.0}}, "method.x: unknown key 'locl'; did you mean 'local'"),
    ("method", {"mosaick": {}}, "method.mosaick: unknown method .* 'mosaick'; did you mean 'mosaickd'"),
    ("method", {"curate": {"of": "kd_ood"}}, "method.curate: a stage has this name already"),
    ("method.kd_ood", {"schedule": {"step": 5}}, "method.kd_ood.schedule: unknown key 'step'; did you mean 'steps'"),
    ("run", {"seeds": [0, 0]}, "run: `seeds` names something twice"),
    ("run", {"seeds": [-1]}, "run.seeds.0: .*greater than or equal to 0"),
    ("run", {"seeds": []}, "run.seeds: .*at least 1"),
    ("run", {"precision": "fp8"}, "run.precision: .*'auto', 'fp32', 'bf16' or 'fast'.*'fp8'"),
    ("task.cifar10-wrn.ood", {"classes": 7}, r"task.cifar10-wrn.ood.classes: .*valid list \(it is 7\)"),
    ("method.mosaickd", {"locl": 1.0}, "method.mosaickd: unknown key 'locl'; did you mean 'local'"),
    ("method.mosaickd", {"local": -1.0}, "method.mosaickd.local: .*greater than or equal to 0.*-1.0"),
    ("method.mosaickd", {"local": "high"}, "method.mosaickd.local: .*valid number.*'high'"),
    (
        "method.mosaickd",
        {"local": {"default": 1.0, "digit": 2.0}},
        "method.mosaickd.local: unknown task 'digit'; did you mean 'digits'",
    ),
    ("method.mosaickd", {"patch": 5}, "method.mosaickd.patch: .*1, 2, 4, 10, 18, 22 or 46.*5"),
    ("method.kd_ood", {"tau": 0.0}, "method.kd_ood.tau: .*greater than 0"),
    ("method.cmi", {"tau": -20.0}, "method.cmi.tau: .*greater than 0"),
    ("method.cmi", {"contrast_tau": 0.0}, "method.cmi.contrast_tau: .*greater than 0"),
    ("method.cmi", {"batch": 1}, "method.cmi.batch: .*greater than or equal to 2"),
    ("method.fast", {"pool": 1}, "method.fast.pool: .*greater than or equal to 2"),
    ("method.fast", {"momentum": 1.0}, "method.fast.momentum: .*less than 1"),
    ("method.fast", {"meta": "maml"}, "method.fast.meta: .*'fomaml' or 'reptile'"),
    ("method.dfq", {"balance": -20.0}, "method.dfq.balance: .*greater than or equal to 0"),
    ("method.deepinversion", {"bank": 9}, "method.deepinversion: unknown key 'bank'"),
    ("method", {"magic": {}}, r"method.magic: unknown method \(a file in stages/methods\) 'magic'"),
    ("task.digits.curate", {"keep": "confident"}, "task.digits.curate.keep: unknown rule 'confident'; did you mean 'confidence'"),
    (
        "task.digits.curate",
        {"keep": "odsd", "protoypes": 3},
        "task.digits.curate: unknown key 'protoypes'; did you mean 'prototypes'",
    ),
    ("task.digits.curate", {"keep": "odsd", "outlier": -1.0}, "task.digits.curate.outlier: .*greater than or equal to 0"),
    ("task.digits-shift.ood", {"train": 0}, "task.digits-shift.ood.train: .*greater than 0"),
    (
        "task.digits-shift.ood",
        {"images": {"source": "fonts"}},
        "task.digits-shift.ood.images: unknown source 'fonts'; .*font_digits",
    ),
    ("task.digits-open-odsd.ood", {"parts": []}, "task.digits-open-odsd.ood.parts: .*at least 2"),
    ("method.crd", {"momentum": 1.0}, "method.crd.momentum: .*less than 1"),
    ("method.dfnd", {"accuracy": 1.0}, "method.dfnd.accuracy: .*less than 1"),
    ("impress", {"tasks": ["digit"]}, "impress.tasks: unknown task 'digit'; did you mean 'digits'"),
    ("impress", {"tasks": ["digits-letters"]}, "impress.tasks: 'digits-letters' is not among run.tasks; name it there too"),
    ("impress", {"templates": ["teacher", "random"]}, "impress: `templates` names the teacher and another seed"),
    ("impress", {"templates": ["seed_1", "seed_2"]}, "impress: `templates` names the teacher and another seed"),
    ("impress", {"templates": ["teacher", "seed_1", "seed_1"]}, "impress: `templates` names something twice"),
    ("impress", {"templates": ["teacher", "seed1"]}, "impress.templates.1: .*pattern.*seed1"),
    ("task.digits.curate", {"keep": "all", "count": 5}, "task.digits.curate.count: all images are kept"),
    ("task", {"cost": {}}, "task.cost"),
    ("method.kd_ood", {"tau": float("inf")}, "method.kd_ood.tau: .*finite"),
    ("method.augkd", {"schedule": {"lr": 0.1}}, "method.augkd.schedule: the method has an optimiser of its own"),
    ("method.odsd", {"noise": "top-k"}, "method.odsd.noise: .*'none', 'topk' or 'adaptation'"),
    ("method.sskd", {"kept": 1.5}, "method.sskd.kept: .*less than or equal to 1"),
    ("method.augkd", {"invariant": 1.0}, "method.augkd.invariant: .*less than 1"),
    ("method.augkd", {"b": 1.5}, "method.augkd.b: .*less than or equal to 1"),
    ("task.digits", {"kind": "regression"}, "task.digits.kind: unknown kind of task 'regression'; .*classification"),
    ("task.digits.image", {"size": 18}, "task.digits.image.size: .*multiple of 4.*18"),
    ("task.digits.ood", {"source": "photos"}, "task.digits.ood: unknown source 'photos'; .*photographs"),
    ("task.digits.ood", {"count": 0}, "task.digits.ood.count: .*greater than 0"),
    (
        "task.digits.teacher",
        {"network": "convnt_32"},
        "task.digits.teacher.network: network 'convnt_32' is unknown; .*convnet_WIDTH",
    ),
    (
        "task.digits.distill",
        {"student": "wrn16"},
        "task.digits.distill.student.network: network 'wrn16' is unknown; .*wrnDEPTH_WIDTH",
    ),
    (
        "task.digits.distill",
        {"student": "mobilenet_v3_smal"},
        "task.digits.distill.student.network: .*'torchvision.mobilenet_v3_small'",
    ),
    (
        "task.digits.distill",
        {"student": "torchvision.resnet1"},
        "task.digits.distill.student: .*no such network; did you mean 'resnet18'",
    ),
    ("task.digits", {"values": "cifar10-smal"}, "task.digits.values: unknown task 'cifar10-smal'; did you mean 'cifar10-small'"),
    ("task.digits.image", {"size": [16, 18]}, "task.digits.image.size.*: .*multiple of 4.*18"),
    ("task.digits.teacher", {"train": None}, "task.digits.teacher: give either `train`"),
    ("task.digits.teacher.train", {"epochs": 1.5}, "task.digits.teacher.train.epochs: .*integer.*1.5"),
    ("task.digits.distill", {"lr": -0.1}, "task.digits.distill.lr: .*greater than 0"),
]


@pytest.mark.parametrize(("section", "change", "message"), CASES)
def test_a_wrong_parameter_is_named(project, section, change, message):
    project.change(section, **change)
    with pytest.raises(UserError, match=f"params.yaml: {message}"):
        plan.main()


def test_the_committed_parameters_are_right_at_both_scales():
    settings = params.load(Path(__file__).parent.parent / "params.yaml")
    assert settings.run.tasks == ["digits"]
    small = Params(settings.run.model_copy(update={"scale": "smoke"}), settings.tasks, settings.rows, settings.impress)
    for name in settings.tasks:
        assert small.task(name).distill.student_steps <= 10
        for row in settings.rows:
            assert methods.section(settings, row, name)
            assert methods.section(small, row, name)


@pytest.mark.parametrize("value", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_a_number_is_read_as_dvc_reads_it(project, value):
    text = Path("params.yaml").read_text()
    assert "lr: 0.001" in text
    project.write(text.replace("lr: 0.001", f"lr: {value}"))
    assert methods.section(params.load(), "mosaickd", "digits").lr == 0.001


def test_a_value_per_task_wins_over_the_default(project):
    project.change("method.mosaickd", local={"default": 1.0, "digits": 0.25})
    settings = params.load()
    assert methods.section(settings, "mosaickd", "digits").local == 0.25
    assert methods.section(settings, "mosaickd", "cifar10-wrn").local == 1.0
    assert methods.section(settings, "mosaickd_no_local", "digits").local == 0.0
    project.change("task.cifar10-wrn", values="digits")
    assert methods.section(params.load(), "mosaickd", "cifar10-wrn").local == 0.25
    project.change("method.mosaickd", local=0.5)  # what `dvc exp run -S method.mosaickd.local=0.5` writes
    assert methods.section(params.load(), "mosaickd", "digits").local == 0.5


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
    assert paths.student("digits", "kd_ood", 0).exists()


def test_a_teacher_of_fewer_images_than_a_batch_says_so(project, capsys):
    project.change("run", scale="full")
    project.change("task.digits.ood", count=20)
    project.change("task.digits.teacher.train", epochs=1, batch=10_000)
    prepare.main("digits")
    train_teacher.main("digits")
    said = "task.digits.teacher.train: there are 1132 examples; a batch has as many, not 10000"
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
    with pytest.raises(
        UserError, match=r"task\.digits\.ood: the student domain has classes 0, .*, ten, the teacher 0, .*, 9; they"
    ):
        prepare.main("digits")


def test_a_student_domain_with_an_empty_class_is_refused(project, tmp_path):
    ood = labelled_folder(tmp_path / "shifted", [*"012345678"])
    (tmp_path / "shifted" / "9").mkdir()
    project.change("task.digits", ood=ood)
    with pytest.raises(UserError, match="the student domain has classes 0, 1, 2, 3, 4, 5, 6, 7, 8, the teacher"):
        prepare.main("digits")
    Image.new("L", (16, 16)).save(tmp_path / "shifted" / "9" / "only.png")
    with pytest.raises(UserError, match=r"task\.digits\.ood\.images: class '9' has 1 examples"):
        prepare.main("digits")
    assert not paths.split("digits", "train").exists()


def test_the_layout_of_a_missing_student_domain_is_in_the_message(project):
    project.change("task.visda2017", in_domain={"source": "digits"}, image={"size": 16, "channels": 1})
    with pytest.raises(UserError, match=r"folder data/raw/visda2017/validation is missing; expected PATH/CLASS/image\.png"):
        prepare.main("visda2017")


def test_a_method_that_cannot_run_writes_why_instead_of_a_student(project, capsys):
    project.teach("digits")
    for row in ("augkd", "augkd_no_anchor"):
        distill.main("digits", row, "0")
        folder = paths.student("digits", row, 0)
        assert "`ood: {source: student_domain, ...}`" in json.loads((folder / "run.json").read_text())["why_not"]
        assert [path.name for path in folder.iterdir()] == ["run.json"]
        assert paths.curve("digits", row, 0).exists()
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
    return [len(Examples.load(paths.split(task, part))) for part in ("train", "val", "test")]


def listed_in_pool(task):
    with (paths.pool(task) / "index.csv").open() as file:
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
    assert not Examples.load(paths.split("digits", "ood")).packed
    pool = Examples.load(paths.pool("digits") / "pool.safetensors")  # few enough to be packed
    assert torch.equal(pool.input, torch.cat(list(replace(pool, columns={"index": pool.index}).batches(2))))

    import_teacher(project, paths.teacher("digits") / "weights.safetensors")
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
    facts = json.loads((paths.pool("digits") / "summary.json").read_text())
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
    card = (paths.teacher("digits") / "card.json").read_text()
    good = load_file(paths.teacher("digits") / "weights.safetensors")
    file = tmp_path / "mine.safetensors"

    save_file(good, file)
    import_teacher(project, file, sha256="0" * 64)
    with pytest.raises(UserError, match=r"mine\.safetensors has sha256 [0-9a-f]{64}, params.yaml says 0{64}"):
        train_teacher.main("digits")

    for name, message in (
        (
            "head.weight",
            r"answers for 5 classes, and the labelled images have 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; give images of each",
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
    assert (paths.teacher("digits") / "card.json").read_text() == card

    wrapped = tmp_path / "mine.pt"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in good.items()}}, wrapped)
    import_teacher(project, wrapped)
    train_teacher.main("digits")
    assert "imported from" in (paths.teacher("digits") / "card.json").read_text()


def run(folder, *command):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_command_line_gives_one_line_and_a_status(project):
    project.change("task.digits.ood", cuont=10)
    done = run(project.folder, "stages.prepare", "digits")
    assert done.returncode == 1
    assert done.stderr.strip() == "error: params.yaml: task.digits.ood: unknown key 'cuont'; did you mean 'count'?"
    done = run(project.folder, "stages.distill", "digits")
    assert done.returncode == 2
    assert "TASK METHOD SEED" in done.stderr


def test_an_output_that_cannot_be_written_is_named_and_the_old_one_stays(project):
    """A disk that fills up in the middle of a file: RLIMIT_FSIZE makes the kernel refuse the rest of the write."""
    prepare.main("digits")
    target = paths.split("digits", "ood")
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
    assert "check the free space" in done.stderr
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
    teacher, ood = paths.teacher("digits") / weights.WEIGHTS, paths.split("digits", "ood")
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
        (paths.pool("digits") / "summary.json").write_text("{}")
        overlap = paths.overlap("digits")
        overlap.write_text(broken)
        with pytest.raises(UserError, match=rf"{overlap} is damaged"):
            curate.main("digits")


def test_a_file_of_pickled_objects_is_refused_with_the_way_to_save_tensors(project, tmp_path):
    prepare.main("digits")
    torch.save({"net": Path("mine")}, tmp_path / "mine.pt")
    import_teacher(project, tmp_path / "mine.pt")
    with pytest.raises(UserError, match=r"mine\.pt holds Python objects, .*torch\.save\(net\.state_dict\(\), path\)$"):
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
        UserError, match=r"params.yaml: task\.digits\.distill\.student: 'torchvision.vit_b_16' takes no images of 64 x 64"
    ):
        plan.main()


def test_a_network_is_tried_at_the_crop_that_it_is_trained_on(project):
    project.change("run", tasks=["digit_scenes"])
    project.change("task.digit_scenes.image", crop=20)  # 32 pixels are halved three times, 20 are not
    with pytest.raises(UserError, match=r"task\.digit_scenes\.teacher: 'unet_16' takes no images of 20 x 20"):
        plan.main()


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
