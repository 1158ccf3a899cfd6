"""Memory and time of each stage with a pool of many images. Not a test.

The pool's files are hard links to a thousand images of noise, or these ten times in each shard; the labelled set has 4,000 images
of noise in ten classes.
Usage: python -m tests.benchmark_scale IMAGES [PACK_GB | shards] [SIDE]
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.clones import REPOSITORY
from tests.conftest import Project

FIRST, SHARD = range(1000), 10_000
STAGES = ("prepare", "train_teacher", "curate", "distill", "evaluate", "report")
ROW = "kd_ood"


def main(images: int, packed: str = "2.0", side: int = 64) -> None:
    """Print peak resident memory (without that of processes that decode files, half a GB each) and seconds, a line a stage."""
    if images % len(FIRST):
        sys.exit(f"a multiple of {len(FIRST):,}, please")
    (space := REPOSITORY / ".dvc" / "tmp").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=space) as folder:
        os.chdir(folder)
        top, rng = Path(folder), np.random.default_rng(0)
        _noise(rng, [top / f"labelled/{k}/{i}.jpg" for k in range(10) for i in range(400)], side)
        _noise(rng, [top / f"others/0/{i}.jpg" for i in FIRST], side)
        ood, kept = _shards(top, images) if packed == "shards" else _links(top, images, float(packed))
        project = Project(top)
        project.change("run", tasks=["digits"], methods=[ROW], seeds=[0], scale="full")
        project.change(
            "task.digits",
            image={"size": side, "channels": 3},
            in_domain={"source": "folder", "path": "labelled"},
            ood=ood,
            curate={"keep": "odsd", "count": kept},
            teacher={"network": "wrn10_1", "train": {"epochs": 1, "batch": 64, "lr": 0.1, "weight_decay": 5e-4}},
            distill={"student": "convnet_8", "student_steps": 50, "batch": 128, "lr": 0.1, "weight_decay": 1e-4},
        )
        print(f"{images:,} images of {side} pixels, {3 * side**2 * images / 1e9:.1f} GB: {ood}, {kept:,} kept")
        for stage in STAGES:
            words = ["digits", *([ROW, "0"] if stage == "distill" else [])]
            begin = time.perf_counter()
            command = [sys.executable, "-m", f"stages.{stage}", *words]
            process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            print(f"{stage:14s} {used.ru_maxrss / 1e6:6.2f} GB {time.perf_counter() - begin:7.0f} s", flush=True)
            if status:
                sys.exit(f"{stage} failed")


def _links(top: Path, images: int, pack_gb: float) -> tuple[dict[str, object], int]:
    """A folder of so many images, of which half is kept."""
    for start in range(len(FIRST), images, len(FIRST)):
        (top / f"others/{start}").mkdir()
        for i in FIRST:
            os.link(top / f"others/0/{i}.jpg", top / f"others/{start}/{i}.jpg")
    return {"source": "folder", "path": "others", "pack_gb": pack_gb}, images // 2


def _shards(top: Path, images: int) -> tuple[dict[str, object], int]:
    """Shards of so many images, of which a twentieth is kept."""
    for start in range(0, images, SHARD):
        with tarfile.open(top / f"{start // SHARD:06d}.tar", "w") as archive:
            for i in range(SHARD):
                archive.add(top / f"others/0/{i % len(FIRST)}.jpg", f"{start + i}.jpg")
    return {"source": "shards", "path": "*.tar"}, images // 20


def _noise(rng: np.random.Generator, files: list[Path], side: int) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(side, side, 3), dtype=np.uint8)).save(file)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:3], *map(int, sys.argv[3:]))
