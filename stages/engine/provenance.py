"""Where a run was made, so that a number in a table can be traced: revision, versions, device."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stages.engine.runtime import Runtime

HOME = str(Path(__file__).resolve().parents[2])  # also where a stage runs in a folder that has a link to the code


def provenance(runtime: Runtime, seconds: float) -> dict[str, Any]:
    """revision, versions, device, processes, precision and seconds of a run."""
    return {
        "revision": _revision(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "torchvision")}},
        "device": _device(runtime.device),
        "processes": runtime.world,
        "precision": "bf16" if runtime.bf16 else "fp32",
        **({"compile": runtime.compile} if runtime.compile else {}),
        "seconds": round(seconds, 1),
    }


def _revision() -> str | None:
    """Short hash of the commit, with + where code or parameters were changed since; None outside of git."""
    head = _git("rev-parse", "--short=9", "HEAD")
    return head and head + ("+" if _git("status", "--porcelain", "--", "stages", "tasks", "params.yaml") else "")


def _git(*command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", HOME, *command], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
