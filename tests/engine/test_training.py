import math
import os
import signal

import pytest
import torch
from PIL import Image

from stages.datasets.images import Augment, augmented
from stages.datasets.sources.folder import Source
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.checkpoint import key as name_of
from stages.engine.loop import train, write_curve
from stages.methods.bases.method import Rescheduled, Schedule
from stages.settings.rates import Drops
from stages.support.errors import UserError
from tests.small import CPU, GAMES, INVERSIONS, METHODS, SMALL, form, images, method, method_class, setting, stream, with_data


def never(folder):
    return Checkpoint(folder, every_minutes=1e6, every_steps=10**9)


def weights(trained):
    return {f"{name}.{key}": value for name, player in trained.players.items() for key, value in player.net.state_dict().items()}


def same_state(one, other):
    """Whether two nested states of tensors and numbers are equal."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_state(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_state, one, other))
    return one == other


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_augmentation_equals_cropping_and_flipping_each_image_by_itself():
    batch = images(32, channels=3, size=12).input
    torch.manual_seed(5)
    fast = augmented(batch, Augment(crop=2, flip=True))
    torch.manual_seed(5)
    flips, (tops, lefts) = torch.rand(32) < 0.5, torch.randint(5, (2, 32, 1))
    for image, result, flip, top, left in zip(batch, fast, flips, tops, lefts, strict=True):
        padded = torch.zeros(3, 16, 16, dtype=torch.uint8)
        padded[:, 2:14, 2:14] = image.flip(2) if flip else image
        assert torch.equal(result, padded[:, int(top) : int(top) + 12, int(left) : int(left) + 12])
    assert 0 < flips.sum() < 32
    assert len(tops.unique()) == len(lefts.unique()) == 5


def test_a_stream_shows_every_image_once_an_epoch_in_a_new_order():
    one = stream("pool", images(24), 8, 0)
    epochs = [torch.cat([one.next()["rows"] for _ in range(3)]) for _ in range(2)]
    assert all(torch.equal(epoch.sort().values, torch.arange(24)) for epoch in epochs)
    assert not torch.equal(*epochs)
    other = stream("other", images(24), 8, 0)
    assert not torch.equal(epochs[0], torch.cat([other.next()["rows"] for _ in range(3)]))


def test_a_stream_goes_on_where_it_was():
    one, again = (stream("pool", images(20), 8, 3) for _ in range(2))
    rows = [one.next()["rows"] for _ in range(7)]
    again.seek(5)
    assert torch.equal(again.next()["rows"], rows[5])
    assert torch.equal(again.next()["rows"], rows[6])


def test_ranks_share_each_batch_without_overlap():
    whole = stream("pool", images(24), 8, 0)
    parts = [stream("pool", images(24), 8, 0, rt.Runtime(torch.device("cpu"), rank=rank, world=2)) for rank in range(2)]
    for _ in range(4):
        assert torch.equal(whole.next()["rows"], torch.cat([part.next()["rows"] for part in parts]))
    with pytest.raises(UserError, match="3 processes"):
        stream("pool", images(24), 8, 0, rt.Runtime(torch.device("cpu"), world=3))


def test_cached_logits_come_along_only_with_bare_images():
    logits = torch.randn(24, 10)
    batch = stream("pool", images(24).having(logits=logits), 8).next()
    assert torch.equal(batch["logits"], logits[batch["rows"]])
    assert "logits" not in stream("pool", images(24).having(logits=logits), 8, augment=Augment(crop=1)).next()


@pytest.mark.parametrize("weights", [None, torch.tensor([0.0, 1, 1, 1, 1])])
def test_of_a_pool_smaller_than_a_batch_each_image_is_drawn_several_times(weights, capsys):
    rows = stream("pool", images(5), 8, weights=weights).next()["rows"]
    assert len(rows) == 8
    assert set(rows.tolist()) == (set(range(5)) if weights is None else set(range(1, 5)))
    assert "5 examples are fewer than a batch of 8" in capsys.readouterr().out
    with pytest.raises(UserError, match="no examples to draw from"):
        stream("pool", images(5).subset(torch.arange(0)), 8, 0)


@pytest.mark.parametrize(("name", "killed"), [*((name, 8) for name in METHODS), ("dfq_finetuned", 12), ("cmi_finetuned", 12)])
def test_a_resumed_run_ends_bit_identical(name, killed, tmp_path):
    """Kill after step 7 of 12 (a checkpoint every 3 steps, so step 7 is lost) and run again; of two phases, in either."""
    options = {"steps": 60 if name in (*GAMES, *INVERSIONS, "impression", "tessera") else 12}
    whole = method(name, **options)
    curve = train(whole, CPU, 0, never(tmp_path / "a"), dict, "", points=4)

    class Killed(Exception):
        pass

    first, calls = method(name, **options), []
    inner = first.step

    def step():
        calls.append(0)
        if len(calls) == killed:
            raise Killed
        return inner()

    first.step = step
    with pytest.raises(Killed):
        train(first, CPU, 0, Checkpoint(tmp_path / "b", 1e6, every_steps=3), dict, "", points=4)
    second = method(name, **options)
    resumed = train(second, CPU, 0, Checkpoint(tmp_path / "b", 1e6, every_steps=3), dict, "", points=4)
    assert_same(weights(whole), weights(second))
    assert curve == resumed
    for key in whole.memories.keys() - {"cost"}:
        assert same_state(whole.memories[key].state(), second.memories[key].state())
    assert whole.cost.images == second.cost.images
    assert whole.teacher.forwards == second.teacher.forwards
    assert not all(torch.equal(value, weights(method(name, **options))[key]) for key, value in weights(whole).items())


@pytest.fixture
def heard():
    """Both signals are heard, though the shell that the tests were started from may ignore one, as in the background."""
    before = {sign: signal.signal(sign, signal.default_int_handler) for sign in (signal.SIGINT, signal.SIGTERM)}
    yield
    for sign, handler in before.items():
        signal.signal(sign, handler)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_the_step_that_was_under_way(sign, tmp_path, heard):
    """No checkpoint was due; the run that goes on ends as one that was never stopped, and counts both sessions' seconds."""
    whole = method("kd_ood", steps=12)
    train(whole, CPU, 0, never(tmp_path / "a"), dict, "")
    first, inner, before = method("kd_ood", steps=12), None, signal.getsignal(sign)
    inner = first.step

    def step():
        if first.streams["pool"].position == 4:
            os.kill(os.getpid(), sign)
        return inner()

    first.step = step
    with pytest.raises(KeyboardInterrupt):
        train(first, CPU, 0, never(tmp_path / "b"), dict, "")
    assert signal.getsignal(sign) == before
    saved = Checkpoint(tmp_path / "b").load()
    assert saved["step"] == 5
    second, again = method("kd_ood", steps=12), never(tmp_path / "b")
    train(second, CPU, 0, again, dict, "")
    assert_same(weights(whole), weights(second))
    assert again.seconds > saved["seconds"] > 0
    assert second.student.updates == whole.student.updates == 12


def test_a_run_on_a_lazily_read_folder_equals_one_from_memory_and_resumes_to_the_same_bits(tmp_path):
    pool = images(24, size=16)
    for row, picture in enumerate(pool.input):
        Image.fromarray(picture[0].numpy()).save(tmp_path / f"{row:02}.png")
    lazy = Source(source="folder", path=str(tmp_path), pack_gb=1e-9).read(form())
    assert not lazy.packed

    def run(examples, stop=None, folder="never"):
        given = setting(augment=Augment(crop=2, flip=True), steps=9)
        game = method_class("kd_ood")(with_data(given, pool=examples), method_class("kd_ood").Params())
        if stop is not None:
            inner = game.step
            game.step = lambda: inner() if game.pool.position < stop else pytest.exit("stopped")
            with pytest.raises(pytest.exit.Exception):
                train(game, CPU, 0, Checkpoint(tmp_path / folder, 1e6, every_steps=1), dict, "")
            return run(examples, folder=folder)
        train(game, CPU, 0, Checkpoint(tmp_path / folder, 1e6, every_steps=10**9), dict, "")
        return weights(game)

    from_memory = run(pool)
    assert_same(from_memory, run(lazy))
    assert_same(from_memory, run(lazy, stop=4, folder="lazy"))


@pytest.mark.parametrize(
    ("falling", "expected"),
    [
        ("cosine", lambda x: (1 + math.cos(math.pi * x)) / 2),
        ("constant", lambda x: 1.0),
        (Drops(at=[0.4, 0.8], by=0.1), lambda x: 1.0 if x < 0.4 else 0.1 if x < 0.8 else 0.01),
    ],
)
def test_rates_fall_over_a_players_span(falling, expected, tmp_path):
    """Of every step of a run, against the closed form; torch's MultiStepLR says the same of drops."""
    game = method("kd_ood", {"schedule": Rescheduled(rate=falling)}, steps=20)
    rates, inner = [], game.step
    game.step = lambda: rates.append(game.student.optimizer.param_groups[0]["lr"]) or inner()
    train(game, CPU, 0, never(tmp_path), dict, "")
    assert rates == pytest.approx([0.1 * expected(step / 20) for step in range(20)])
    if isinstance(falling, Drops):
        other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(other, [8, 16], 0.1)
        theirs = []
        for _ in range(20):
            theirs.append(other.param_groups[0]["lr"])
            other.step()
            scheduler.step()
        assert rates == pytest.approx(theirs)
    game.student.span = (0.5, 1.0)
    game.student.anneal(0.75)
    assert game.student.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * expected(0.5))


def test_half_way_every_learning_rate_is_half(tmp_path):
    game = method("mosaickd", steps=50)
    assert game.iterations == 10
    seen = []
    inner = game.step

    def step():
        seen.append({name: player.optimizer.param_groups[0]["lr"] / player.base_lr for name, player in game.players.items()})
        return inner()

    game.step = step
    train(game, CPU, 0, never(tmp_path), dict, "")
    for i, rates in enumerate(seen):
        assert set(rates) == {"student", "generator", "discriminator"}
        assert all(rate == pytest.approx((1 + math.cos(math.pi * i / 10)) / 2) for rate in rates.values())
    assert seen[5]["student"] == pytest.approx(0.5)


def test_the_curve_holds_means_since_the_row_before(tmp_path):
    game = method("kd_ood", steps=12)
    values = []
    inner = game.step

    def step():
        scalars = inner()
        values.append(scalars["loss"].item())
        return scalars

    game.step = step
    curve = train(game, CPU, 0, never(tmp_path), lambda: {"probe": 1.0}, "", points=3)
    assert [row["step"] for row in curve] == [4, 8, 12]
    assert curve[1]["loss"] == pytest.approx(sum(values[4:8]) / 4)
    assert curve[1]["probe"] == 1.0


def test_a_new_phase_starts_new_means_and_new_columns(tmp_path):
    """SSKD has 4 steps of a head and then 8 of the student: a row holds means of its own phase only."""
    game, values = method("sskd", steps=8), []
    inner = game.step

    def step():
        scalars = inner()
        values.append({name: value.item() for name, value in scalars.items()})
        return scalars

    game.step = step
    curve = train(game, CPU, 0, never(tmp_path), lambda: {"probe": 1.0}, "", points=2)
    assert [set(row) for row in curve] == [{"step", "probe", "kd", "turned", "similarity"}] * 2
    assert curve[0]["kd"] == pytest.approx(sum(row["kd"] for row in values[4:6]) / 2)
    write_curve(tmp_path / "curve.csv", [{"step": 1, "head": 0.5}, {"step": 2, "kd": 0.25}])
    assert (tmp_path / "curve.csv").read_text().split() == ["step,head,kd", "1,0.5,", "2,,0.25"]


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path):
    game = method("kd_ood", steps=40, lr=1e20)
    with pytest.raises(
        UserError, match=r"not finite at step \d+: loss=(nan|inf|[-\d.e+]+); the last good checkpoint is .*last.pt"
    ):
        train(game, CPU, 0, Checkpoint(tmp_path, 1e6, every_steps=1), dict, "")
    saved = Checkpoint(tmp_path).load()
    assert saved["step"] >= 1


def test_a_broken_checkpoint_or_another_runs_is_passed_over(tmp_path, capsys):
    mine, other = tmp_path / "mine", tmp_path / "other"
    Checkpoint(mine).save(3, {"net": torch.arange(50.0)})
    good = (mine / "last.pt").read_bytes()
    assert Checkpoint(mine).load()["step"] == 3
    other.mkdir()
    (other / "last.pt").write_bytes(good)
    assert Checkpoint(other).load() is None
    flipped = [bytes([*good[:place], good[place] ^ 1 << place % 8, *good[place + 1 :]]) for place in range(0, len(good), 31)]
    for broken in (b"", b"half a file", good[:-1], *flipped):
        (mine / "last.pt").write_bytes(broken)
        assert Checkpoint(mine).load() is None
    assert capsys.readouterr().err.count("starting from the beginning") == 4 + len(flipped)


def test_a_checkpoints_name_changes_with_all_that_the_run_depends_on(tmp_path):
    file = tmp_path / "input"
    file.write_bytes(b"a")
    one = name_of("identity", 0, CPU, [file])
    assert one == name_of("identity", 0, CPU, [file])
    others = [
        name_of("another", 0, CPU, [file]),
        name_of("identity", 1, CPU, [file]),
        name_of("identity", 0, rt.Runtime(torch.device("cpu"), world=2), [file]),
        name_of("identity", 0, rt.Runtime(torch.device("cpu"), bf16=True), [file]),
    ]
    file.write_bytes(b"b")
    assert len({one, *others, name_of("identity", 0, CPU, [file])}) == 6


@pytest.mark.parametrize("name", ["kd_ood", "mosaickd", "fast", "tessera", "dfq_finetuned", "augkd"])
def test_a_frozen_module_of_a_student_stays_as_it_starts(name, tmp_path):
    """In every phase of a method, whatever optimiser it brings."""
    given = setting()
    frozen, free = (list(given.student.net.parameters())[place] for place in (0, -1))
    frozen.requires_grad_(False)
    before = [parameter.detach().clone() for parameter in (frozen, free)]
    of = method_class(name)
    train(of(given, of.Params(**SMALL.get(name, {}))), CPU, 0, never(tmp_path), dict, "")
    assert torch.equal(frozen, before[0])
    assert not torch.equal(free, before[1])


def test_an_augmentation_that_a_method_brings_is_for_the_pool_too():
    given = Schedule(10, 8, 16, 0.1, 0.0, Augment(crop=2), augment_pool=Augment(flip=True))
    assert Rescheduled(steps=5).of(given).of_pool == Augment(flip=True)
    assert Rescheduled(augment=Augment(crop=1)).of(given).of_pool == Augment(crop=1)
    assert Rescheduled(augment=Augment(crop=1), augment_pool=Augment()).of(given).of_pool == Augment()


@pytest.mark.parametrize("name", ["mosaickd", "dfad", "fast", "tessera", "dfq_finetuned"])
def test_the_student_takes_as_many_steps_as_the_schedule_says(name):
    """The last iteration is shorter where they do not come out even: 5 and 2 of 7; before labels, 5 thrice."""
    options = {"data_free": 13} if name.endswith("_finetuned") else {}
    game = method(name, {**SMALL.get(name, {}), "student_steps": 5, **options}, steps=7)
    for _ in range(game.iterations):
        game.step()
    assert game.student.updates == 7 + options.get("data_free", 0)
