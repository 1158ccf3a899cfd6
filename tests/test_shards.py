"""A pool of shards: streamed through the teacher, and the same pool whoever computes it and in whatever order."""

import io
import re
import tarfile

import fsspec
import pytest
import torch
from PIL import Image

from stages import curate, distill, evaluate, plan, prepare, report, train_teacher
from stages.datasets.examples import Examples
from stages.datasets.images import to_pixels
from stages.datasets.sources.shards import Source, braced
from stages.jobs import sharded
from stages.networks.build import build
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.support.files import read_json, read_tensors
from stages.tools import score_shards

SIZES = [40, 33, 27]  # images of a shard
COUNT = 30


def shard(path, images, others=(), cut=None):
    """A tar file of images (n, H, W), uint8, and of other (name, bytes)."""
    path.parent.mkdir(exist_ok=True)
    files = []
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image.numpy()).save(buffer, "png")
        files += [(f"{number:05d}.png", buffer.getvalue()), (f"{number:05d}.cls", b"3")]
    with tarfile.open(path, "w") as archive:
        for name, content in [*others, *files]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    if cut:
        path.write_bytes(path.read_bytes()[:cut])


def pictures(n, seed):
    """Smooth images, on which a teacher is of different opinions."""
    coarse = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, (20, 20), mode="bicubic")[:, 0].clamp(0, 1) * 255).to(torch.uint8)


@pytest.fixture
def task(project, monkeypatch):
    """Digits with a pool of shards, before its stages; no helpers, which take seconds to begin."""
    monkeypatch.setattr(sharded.os, "sched_getaffinity", lambda pid: {0})
    for number, n in enumerate(SIZES):
        shard(project.folder / "shards" / f"{number}.tar", pictures(n, number))
    project.change("run", scale="full")
    project.change("task.digits", ood={"source": "shards", "path": "shards/*.tar"}, curate={"keep": "confidence", "count": COUNT})
    project.change("task.digits.teacher.train", epochs=2)
    return project


def made(project):
    plan.main()
    for stage in (prepare, train_teacher):
        stage.main("digits")
    return streamed()


def streamed():
    curate.main("digits")
    return Examples.load(Places("digits").pool / "pool.safetensors")


def test_the_pool_is_that_of_the_same_images_in_a_folder(task):
    """Chosen by the same rule, with what the teacher says of them; shards are read in the order of their names."""
    pool = made(task)
    scores, _ = read_tensors(Places("digits").pool / "scores.safetensors")
    folder = task.folder / "flat"
    folder.mkdir()
    for number, n in enumerate(SIZES):
        for place, image in enumerate(pictures(n, number)):
            Image.fromarray(image.numpy()).save(folder / f"{number}-{place:05d}.png")
    task.change("task.digits", ood={"source": "folder", "path": "flat"})
    prepare.main("digits")
    other = streamed()
    assert len(pool) == COUNT
    for column in ("input", "index", "predicted"):
        assert torch.equal(pool.columns[column], other.columns[column])
    assert torch.allclose(pool.columns["logits"], other.columns["logits"], atol=1e-4)
    assert [name.rpartition("/")[2] for name in pool.files] == [name.rpartition("-")[2] for name in other.files]
    flat, _ = read_tensors(Places("digits").pool / "scores.safetensors")
    assert torch.allclose(scores["confidence"], flat["confidence"], atol=1e-5)


@pytest.mark.parametrize("rule", [{"keep": "odsd"}, {"keep": "random"}, {"keep": "lowest_entropy", "weights": "moments"}])
def test_who_scores_the_shards_makes_no_difference(task, rule):
    task.change("task.digits", curate={**rule, "count": COUNT})
    one = made(task)
    (folder,) = (task.folder / sharded.FOLDER).iterdir()
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    for file in folder.iterdir():
        file.unlink()
    for part in ("3/3", "1/3"):  # another machine, and one that is not there
        score_shards.main("digits", part)
    assert len(list(folder.iterdir())) == 2
    other = streamed()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    assert one.columns.keys() == other.columns.keys()
    for name, column in one.columns.items():
        assert torch.equal(column, other.columns[name])


def test_helpers_score_as_one_process_does(task, monkeypatch):
    one = made(task)
    (folder,) = (task.folder / sharded.FOLDER).iterdir()
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    for file in folder.iterdir():
        file.unlink()
    monkeypatch.setattr(sharded.os, "sched_getaffinity", lambda pid: {0, 1})
    other = streamed()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    assert torch.equal(one.input, other.input)
    assert one.files == other.files


def test_another_count_asks_the_teacher_nothing_again(task):
    made(task)
    (folder,) = (task.folder / sharded.FOLDER).iterdir()
    times = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    task.change("task.digits.curate", count=12)
    assert len(streamed()) == 12
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == times


HALF = 20 * 1024 + 512  # twenty images and labels of a kilobyte each with its header, and a header more


@pytest.mark.parametrize("cut", [9000, 9216, HALF])
def test_damaged_images_and_shards_are_named_and_counted(task, cut, capsys):
    """However it is cut, within a picture or between two."""
    shard(task.folder / "shards" / "3.tar", pictures(40, 3), others=[("bad.png", b"no picture"), ("._x.png", b"of a Mac")])
    shard(task.folder / "shards" / "4.tar", pictures(20, 4), cut=cut)
    pool = made(task)
    said = capsys.readouterr().out
    assert "1 of 5 shards are damaged: shards/4.tar" in said
    assert re.search(r"1 of 1\d\d images are damaged: shards/3\.tar/bad\.png", said)
    assert len(pool) == COUNT
    assert any("/3.tar/" in name for name in pool.files)
    for name, image in zip(pool.files, pool.input, strict=True):  # what lies behind the damaged one is not another
        _, number, place = name.removesuffix(".png").replace(".tar", "").split("/")
        drawn = pictures([*SIZES, 40, 20][int(number)], int(number))[int(place)]
        assert torch.equal(image, to_pixels(Image.fromarray(drawn.numpy()), (1, 16, 16)))


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"3.tar": [(f"{i}.png", b"no picture") for i in range(9)]}, "too much of it is damaged"),
        ({"3.tar": None, "4.tar": None}, "too much of it is damaged"),
        ({f"{i}.tar": [] for i in range(3)}, "holds no image that can be read"),
    ],
)
def test_too_much_damage_is_an_error(task, others, message):
    for name, content in others.items():
        shard(task.folder / "shards" / name, [], others=content or [], cut=5 if content is None else None)
    with pytest.raises(UserError, match=rf"digits\.ood:? {message}|digits\.ood: {message}"):
        made(task)


def test_shards_that_changed_are_scored_again_once_they_are_listed(task):
    before = made(task)
    path = task.folder / "shards" / "0.tar"
    size = path.stat().st_size
    shard(path, 255 - pictures(SIZES[0], 0))
    assert path.stat().st_size == pytest.approx(size, rel=0.2)
    with pytest.raises(UserError, match=r"shards/0\.tar is not as `prepare` found it"):
        streamed()
    prepare.main("digits")
    assert not torch.equal(before.columns["confidence"], streamed().columns["confidence"])


def test_without_images_of_the_domain_the_first_shard_measures_students(task):
    """And what is in it is not in the pool, wherever else it lies."""
    shard(task.folder / "shards" / "0.tar", pictures(60, 0))
    shard(task.folder / "shards" / "1.tar", torch.cat([pictures(60, 0), pictures(10, 9)]))
    (task.folder / "shards" / "2.tar").unlink()
    torch.manual_seed(0)
    torch.save(build("convnet_32", 10, (1, 16, 16)).state_dict(), "teacher.pt")
    weights = {"path": "teacher.pt", "mean": [0.5], "std": [0.5]}
    classes = [str(number) for number in range(10)]
    task.change("task.digits", in_domain=None, classes=classes, teacher={"network": "convnet_32", "weights": weights})
    task.change("task.digits.curate", count=70)
    pool = made(task)
    held = Examples.load(Places("digits").split("test"))
    assert all("0.tar" in name for name in held.files)
    assert all("1.tar" in name for name in pool.files)
    assert not {tuple(image.flatten().tolist()) for image in held.input} & {tuple(one.flatten().tolist()) for one in pool.input}
    assert len(pool) < 70


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curate": {"keep": "all"}}, "digits.curate: of shards some images are kept"),
        ({"curate": {"keep": "impression", "count": 5}}, "`impression` looks at pictures twice"),
        ({"ood": {"source": "shards", "path": "shard/*.tar"}}, r"digits\.ood: there are no shards at shard/\*\.tar"),
        (
            {"ood": {"source": "shards", "path": "shards"}},
            r"shards is a folder; write which files in it are shards, such as shards/\*\.tar",
        ),
        (
            {"ood": {"source": "shards", "path": "shards/{0..9}.tar"}, "curate": {"keep": "random", "count": 5}},
            r"there are no shards at .*/shards/\d\.tar",
        ),
        ({"ood": {"source": "shards", "path": "nowhere://x/*.tar"}}, r"digits\.ood: nowhere://x/\*\.tar: "),
    ],
)
def test_what_shards_cannot_do_is_said(task, changes, message):
    task.change("task.digits", **changes)
    with pytest.raises(UserError, match=message):
        made(task)


def test_a_student_learns_from_shards(task):
    task.change("task.digits.distill", student_steps=4)
    task.change("run", methods=["kd_ood"])
    made(task)
    distill.main("digits", "kd_ood", "0")
    evaluate.main("digits")
    report.main("digits")
    assert read_json(Places("digits").pool / "summary.json")["of"] == sum(SIZES)


@pytest.mark.parametrize("path", ["shards/{0..2}.tar", "shards/[0-2].tar", "shards/?.tar", "shards/{0,1,2}.tar"])
def test_a_pattern_may_have_braces_and_brackets(task, path):
    (task.folder / "shards" / "spare").mkdir()
    found = Source(source="shards", path=path).shards()
    assert [one["path"] for one in found] == [f"shards/{number}.tar" for number in range(3)]


def test_numbers_in_braces_keep_their_zeros():
    assert braced("a-{008..010}-{x,yz}.tar") == [f"a-{n}-{x}.tar" for n in ("008", "009", "010") for x in ("x", "yz")]


def test_shards_lie_behind_any_url(task):
    here = fsspec.filesystem("memory")
    for number in range(len(SIZES)):
        here.pipe(f"/pool/{number}.tar", (task.folder / "shards" / f"{number}.tar").read_bytes())
    local = made(task)
    task.change("task.digits", ood={"source": "shards", "path": "memory://pool/*.tar"})
    prepare.main("digits")
    remote = streamed()
    assert torch.equal(local.input, remote.input)
    assert remote.files[0].startswith("memory://")
