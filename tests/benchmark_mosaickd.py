"""Outer iterations per second of MosaicKD, WRN-40-2 -> WRN-16-1 on 32-pixel images, against the naive loop.

Usage: python -m tests.benchmark_mosaickd [--batch N] [--iterations N] [--precision P] [--threads N] [--compile WHAT] [--bare]

The naive loop (tests/naive_mosaickd.py) is eager fp32 with nothing frozen, nothing cached and everything recomputed. Both loops
must give the same losses in the first three iterations: asserted in fp64. In fp32 rounding grows with every step, so what the
naive loop does to itself in another memory format is printed beside the difference. --bare leaves the pool unaugmented, as for
SVHN and digits: then the teacher's logits of the pool are known beforehand.
"""

import argparse
import copy
import statistics
import time

import torch

from stages.datasets.images import Augment
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from stages.methods.bases.method import Schedule, Setting
from tests.naive_mosaickd import NaiveMosaicKD
from tests.small import MEAN, STD, answered, images, kind, method_class, network, stream


def build(runtime, batch, augment):
    rt.seed(0)
    teacher = network("wrn40_2", 3, 32)
    teacher(torch.rand(64, 3, 32, 32))  # running statistics away from 0 and 1, so that logits are in a sane range
    pool = images(max(4 * batch, 512), channels=3, size=32)
    of, schedule = method_class("mosaickd"), Schedule(10**6, batch, 2 * batch, 0.1, 1e-4, augment)
    guide, student = Teacher(runtime.place(teacher)), network("wrn16_1", 3, 32)
    guide.compiled = runtime.compile == "teacher"
    setting = answered(Setting(kind(3, 32), guide, student, schedule, 0, runtime, {"pool": pool}, MEAN, STD))
    game = of(setting, of.Params())
    nets = (game.teacher.parts[0].net, game.student.net.net, game.generator.net, game.discriminator.net.net)
    copies = [copy.deepcopy(net).to(memory_format=torch.contiguous_format) for net in nets]
    for net in copies:
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.track_running_stats = True
    streams = [stream(name, pool, batch, 0, runtime, a) for name, a in (("real", Augment()), ("ood", augment))]
    return game, NaiveMosaicKD(copies, MEAN, STD, *streams, batch)


def drift(step, other):
    """Largest relative difference of a loss between two loops in each of their first three iterations."""
    differences = []
    for i in range(3):
        rt.seed(0, i)
        a = {name: float(value) for name, value in step().items()}
        rt.seed(0, i)
        b = {name: float(value) for name, value in other().items()}
        differences.append(float(f"{max(abs(a[name] - b[name]) / max(1.0, abs(b[name])) for name in b):.1e}"))
    return differences


def seconds(step, iterations, device):
    times = []
    for i in range(iterations):
        rt.seed(1, i)
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256 if torch.cuda.is_available() else 32)
    parser.add_argument("--iterations", type=int, default=30 if torch.cuda.is_available() else 5)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", choices=["teacher", "all"])
    parser.add_argument("--bare", action="store_true")
    options = parser.parse_args()
    augment = Augment() if options.bare else Augment(crop=4, flip=True)
    torch.set_default_dtype(torch.float64)
    exact, reference = build(rt.start("fp32"), 8, augment)
    worst = drift(exact.step, reference.step)
    print(f"fp64: largest relative difference of a loss in 3 iterations {max(worst):.1e}")
    assert max(worst) < 1e-9, "the two loops do not compute the same losses"
    torch.set_default_dtype(torch.float32)
    runtime = rt.start(
        options.precision, {"teacher": "teacher", "all": True}.get(options.compile, False), rt.WIDE, options.threads
    )
    game, naive = build(runtime, options.batch, augment)

    def fast():
        with runtime.autocast():
            return game.step()

    ours_to_naive = drift(fast, naive.step)  # also the warm-up
    _, first = build(runtime, options.batch, augment)
    _, second = build(runtime, options.batch, augment)
    for net in (second.t, second.s, second.g, second.d):
        net.to(memory_format=torch.channels_last)
    naive_to_itself = drift(first.step, second.step)
    precision = "bf16" if runtime.bf16 else "fp32"
    print(f"{precision}: differences {ours_to_naive} by iteration; naive to itself, channels-last: {naive_to_itself}")
    # In turns, so that a machine that slows down slows both.
    rounds = [
        (seconds(fast, options.iterations, runtime.device), seconds(naive.step, options.iterations, runtime.device))
        for _ in range(3)
    ]
    ours, plain = (statistics.median(t for pair in rounds for t in pair[k]) for k in range(2))
    where = torch.cuda.get_device_name() if runtime.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    n = 3 * options.iterations
    print(f"{where}, batch {options.batch}, {precision}, compile {options.compile}, median of {n}")
    print(f"ours {1 / ours:.3f} iterations/s, naive {1 / plain:.3f} iterations/s, speed-up {plain / ours:.2f}x")


if __name__ == "__main__":
    main()
