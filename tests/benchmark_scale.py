"""Memory and time of each stage with a pool of many images of 64 pixels. Not a test.

The pool's files are hard links to a thousand images of noise; the labelled set has 4,000 images of noise in ten classes.
Usage: python -m tests.benchmark_scale IMAGES [PACK_GB]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.clones import REPOSITORY
from tests.conftest import Project

SIDE, FIRST = 64, range(1000)
STAGES = ("prepare", "train_teacher", "curate", "distill", "evaluate", "report")
ROW = "kd_ood"


def main(images: int, pack_gb: float = 2.0) -> None:
    """Print peak resident memory (without that of processes that decode files, half a GB each) and seconds, a line a stage."""
    if images % len(FIRST):
        sys.exit(f"a multiple of {len(FIRST):,}, please")
    (space := REPOSITORY / ".dvc" / "tmp").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=space) as folder:
        os.chdir(folder)
        top, rng = Path(folder), np.random.default_rng(0)
        _noise(rng, [top / f"labelled/{k}/{i}.jpg" for k in range(10) for i in range(400)])
        _noise(rng, [top / f"others/0/{i}.jpg" for i in FIRST])
        for start in range(len(FIRST), images, len(FIRST)):
            (top / f"others/{start}").mkdir()
            for i in FIRST:
                os.link(top / f"others/0/{i}.jpg", top / f"others/{start}/{i}.jpg")
        project = Project(top)
        project.change("run", tasks=["digits"], methods=[ROW], seeds=[0], scale="full")
        project.change(
            "task.digits",
            image={"size": SIDE, "channels": 3},
            in_domain={"source": "folder", "path": "labelled"},
            ood={"source": "folder", "path": "others", "pack_gb": pack_gb},
            curate={"keep": "odsd", "count": images // 2},
            teacher={"network": "wrn10_1", "train": {"epochs": 1, "batch": 64, "lr": 0.1, "weight_decay": 5e-4}},
            distill={"student": "convnet_8", "student_steps": 50, "batch": 128, "lr": 0.1, "weight_decay": 1e-4},
        )
        print(f"{images:,} images of {SIDE} pixels, {3 * SIDE**2 * images / 1e9:.1f} GB, packed up to {pack_gb} GB")
        for stage in STAGES:
            words = ["digits", *([ROW, "0"] if stage == "distill" else [])]
            begin = time.perf_counter()
            command = [sys.executable, "-m", f"stages.{stage}", *words]
            process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            print(f"{stage:14s} {used.ru_maxrss / 1e6:6.2f} GB {time.perf_counter() - begin:7.0f} s", flush=True)
            if status:
                sys.exit(f"{stage} failed")


def _noise(rng: np.random.Generator, files: list[Path]) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)).save(file)


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(float, sys.argv[2:]))
