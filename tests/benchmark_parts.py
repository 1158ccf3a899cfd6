"""Where the time of a step goes, by kind of operation, for methods on wide networks: WRN-40-2 -> WRN-16-1 at 32 pixels.

Usage: python -m tests.benchmark_parts [--batch N] [--precision auto|fp32|bf16] [--threads N] [--rows ROW,ROW] [--file FILE]

A step is an outer iteration with its student's steps. Shares are of the operators' own CPU time in torch's profiler, of the
third step. `T forward` and `T backward` count images through the teacher in a step. The table is printed, and kept in FILE if
given.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from stages.datasets.images import Augment
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from stages.methods.bases.method import Schedule, Setting
from tests.small import MEAN, STD, answered, images, kind, method_class, network

ROWS = ("kd_ood", "mosaickd", "tessera", "fast", "cmi", "deepinversion")
FEW = {"steps": 10, "student_steps": 5}  # of an inversion, so that a step is a matter of seconds
OWN = {
    "tessera": {**FEW, "batch": 32, "pool": 512, "ring": 512},
    **{name: {**FEW, "batch": 32, "pool": 512, "warmup": 0} for name in ("fast", "cmi", "deepinversion")},
}
OWN["cmi"] |= {"bank": 512, "negatives": 256}
KINDS = {
    "convolution": ("conv", "mkldnn_convolution", "slow_conv"),
    "matrix product": ("addmm", "aten::mm", "bmm", "linear"),
    "batch norm": ("batch_norm", "var_mean"),
    "activation": ("relu", "threshold", "tanh", "sigmoid", "softplus", "softmax"),
    "addition": ("aten::add", "aten::sub", "aten::mul", "aten::div"),
    "copy and cast": ("copy_", "aten::cat", "aten::clone", "contiguous", "to_copy"),
    "optimiser": ("fused_sgd", "fused_adam", "_foreach"),
    "resampling": ("upsample", "index", "gather", "roll", "flip"),
}


def game_of(name: str, runtime: rt.Runtime, batch: int):
    """The method on made-up images."""
    rt.seed(0)
    teacher = network("wrn40_2", 3, 32)
    teacher(torch.rand(64, 3, 32, 32))  # running statistics away from 0 and 1
    schedule = Schedule(10**6, batch, 2 * batch, 0.1, 1e-4, Augment(crop=4, flip=True))
    guide, student = Teacher(runtime.place(teacher)), network("wrn16_1", 3, 32)
    data = {"pool": images(512, channels=3, size=32)}
    of = method_class(name)
    given = answered(Setting(kind(3, 32), guide, student, schedule, 0, runtime, data, MEAN, STD))
    return of(given, of.Params(**OWN.get(name, {})))


def kind_of(operator: str) -> str:
    """The kind of operation that an operator of torch is."""
    return next((kind for kind, words in KINDS.items() if any(word in operator for word in words)), "other")


def shares(name: str, runtime: rt.Runtime, batch: int) -> dict[str, float]:
    """Seconds of a step, T's images, and the shares of the kinds of operations in percent."""
    game = game_of(name, runtime, batch)
    with runtime.autocast():
        rt.seed(1, 0)
        game.step()
        before, begin = (game.teacher.forwards, game.teacher.backwards), time.perf_counter()
        rt.seed(1, 1)
        game.step()
        seconds = time.perf_counter() - begin
        passes = [now - then for now, then in zip((game.teacher.forwards, game.teacher.backwards), before, strict=True)]
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            game.step()
    times: dict[str, float] = {}
    for event in trace.key_averages():
        times[kind_of(event.key)] = times.get(kind_of(event.key), 0.0) + event.self_cpu_time_total
    found = {kind: 100 * times.get(kind, 0.0) / sum(times.values()) for kind in (*KINDS, "other")}
    return {"s a step": seconds, "T forward": passes[0], "T backward": passes[1], **found}


def main() -> None:
    """Print a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    runtime = rt.start(options.precision, macs=rt.WIDE, threads=options.threads)
    rows = {name: shares(name, runtime, options.batch) for name in options.rows.split(",")}
    text = pd.DataFrame(rows).T.round(1).to_markdown()
    print(text)
    if options.file:
        options.file.write_text(text + "\n")


if __name__ == "__main__":
    main()
