"""Synthesis steps per second of Fast-10 and CMI, WRN-40-2 -> WRN-16-1 on 32-pixel images, against naive loops.

Usage: python -m tests.benchmark_inversion [--batch N] [--rounds N] [--compile]

The naive loops (tests/naive_inversion.py) follow the papers literally: eager fp32, a cloned module a batch, hooks that always
stand, nothing frozen, the pool as PNG files that are written and read back for the student. Both sides make a batch, put it into
the pool and take `STUDENT` student steps on the pool, where the naive side's hooks cost too; synthesis alone is given as well.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from stages.datasets.images import Augment, augmented, to_uint8
from stages.engine import runtime as rt
from stages.engine.players import in_eval
from stages.engine.teacher import Teacher
from stages.methods.bases.method import Schedule, Setting
from stages.methods.blocks.views import resized_crop
from stages.networks.generator import redraw
from tests.methods.test_data_free import unfrozen
from tests.naive_inversion import NaiveCMI, NaiveFast
from tests.small import MEAN, STD, kind, method_class, network

AUGMENT = Augment(crop=4, flip=True)
STUDENT = 4  # student steps a batch


def build(name, runtime, batch):
    rt.seed(0)
    teacher = network("wrn40_2", 3, 32)
    teacher(torch.rand(64, 3, 32, 32))  # running statistics away from 0 and 1
    schedule = Schedule(10**6, batch, 2 * batch, 0.1, 1e-4, AUGMENT)
    placed, student = Teacher(runtime.place(teacher)), network("wrn16_1", 3, 32)
    of = method_class(name)
    few = {"steps": 10, "batch": batch, "pool": 50 * batch, "student_steps": STUDENT, "warmup": 0}
    extra = {} if name == "fast" else {"bank": 4096, "negatives": 1024}
    given = Setting(kind(3, 32), placed, student, schedule, 0, runtime, {}, MEAN, STD)
    game = of(given, of.Params(**few, **extra))
    t, s = (unfrozen(net).to(memory_format=torch.contiguous_format) for net in (teacher, student))
    if name == "fast":
        generator = unfrozen(game.inverter.generator.net).to(memory_format=torch.contiguous_format)
        crop = lambda x: augmented(x, AUGMENT)  # noqa: E731
        naive = NaiveFast(t.net, s.net, generator, t.normalize, crop, 10, 2e-3, 0.01, 0.9, (1.1, 10.0, 0.4))
    else:
        generator = unfrozen(game.generator).to(memory_format=torch.contiguous_format)
        views = (lambda x: augmented(x, AUGMENT), lambda x: resized_crop(x, flip=True))
        head = unfrozen(game.heads[0].net)
        naive = NaiveCMI(t.net, s.net, generator, head, t.normalize, views, 10, 1e-3, 0.1, (0.5, 1.0, 1.0, 0.8), 1024)
    return game, naive


class NaiveRound:
    """One batch into a folder of PNG files, then student steps on files of the folder."""

    def __init__(self, naive, folder, batch):
        self.naive, self.folder, self.batch, self.count = naive, Path(folder), batch, 0
        self.optimizer = torch.optim.SGD(naive.s.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)

    def synthesise(self):
        if isinstance(self.naive, NaiveCMI):
            redraw(self.naive.g)
        self.naive.s.eval()
        images, _ = self.naive.synthesise(torch.randn(self.batch, 256), torch.randint(10, (self.batch,)))
        self.naive.s.train()
        for pixels in (images * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy():
            Image.fromarray(pixels).save(self.folder / f"{self.count}.png")
            self.count += 1

    def distil(self):
        for _ in range(STUDENT):
            files = [self.folder / f"{i}.png" for i in torch.randint(self.count, (self.batch,)).tolist()]
            pixels = [torch.frombuffer(bytearray(Image.open(file).tobytes()), dtype=torch.uint8) for file in files]
            images = torch.stack(pixels).view(-1, 32, 32, 3).permute(0, 3, 1, 2).float() / 255
            x = self.naive.normalize(augmented(images, AUGMENT))
            with torch.no_grad():
                t = self.naive.t(x)
            s = self.naive.s(x)
            loss = F.kl_div((s / 20).log_softmax(1), (t / 20).softmax(1), reduction="batchmean") * 400
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def timed(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    runtime = rt.start("fp32", options.compile)
    for name in ("fast", "cmi"):
        game, naive = build(name, runtime, options.batch)

        def synthesise(game=game):
            with in_eval(game.student.net):
                images, _ = game.synthesise(game.targets())
            game.pool.append(images=to_uint8(images))

        def distil(game=game):
            for _ in range(STUDENT):
                game.imitate([[game.student_batch()]])

        times = {key: [] for key in ("ours", "naive", "ours, with student", "naive, with student")}
        with tempfile.TemporaryDirectory() as folder:
            other = NaiveRound(naive, folder, options.batch)
            for i in range(options.rounds + 1):  # the first is the warm-up
                rt.seed(0, i)
                ours, theirs = timed(synthesise), timed(other.synthesise)
                both = ours + timed(distil), theirs + timed(other.distil)
                if i:
                    for values, seconds in zip(times.values(), (ours, theirs, *both), strict=True):
                        values.append(seconds)
        ours, theirs, all_ours, all_theirs = (statistics.median(values) for values in times.values())
        print(
            f"{name}: {10 / ours:.2f} synthesis steps/s, naive {10 / theirs:.2f} ({theirs / ours:.2f}x); with {STUDENT} student "
            f"steps a batch {all_theirs / all_ours:.2f}x (batch {options.batch}, {torch.get_num_threads()} threads, "
            f"n={options.rounds})"
        )


if __name__ == "__main__":
    main()
