"""Students compared without an image of the domain: on images inverted from the teacher, of which none has learned."""

import hashlib
import math
import shutil
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from stages.datasets.examples import INPUT, Examples, pack
from stages.datasets.images import to_uint8
from stages.engine import runtime as rt
from stages.engine.teacher import BATCH_NORM, GRADIENT, Teacher
from stages.jobs.job import Job
from stages.jobs.setup import Opened, schedule_of
from stages.kinds import IMAGES, ONE_LABEL, Kind
from stages.methods import deepinversion
from stages.methods.bases.method import Method, Schedule, Setting
from stages.networks.weights import WEIGHTS
from stages.settings import plans
from stages.settings.task import HELD_OUT
from stages.support.errors import UserError
from stages.support.files import read_tensors, save_tensors, sha256
from stages.support.progress import progress

SCORE = "agree_inverted"
FOLDER = Path(".cache/inverted")
COUNT = 512  # images that are made
BATCH, PIXELS, LEAST = 256, 2**20, 32  # images made together: fewer where they are large, for memory, but not too few
STEPS, RATE, BN = 200, 0.05, 1.0  # of DeepInversion


def compared_by(kind: Kind, teacher: Teacher) -> str:
    """The score by which rows are compared: the headline, unless the pool alone measures students and T can be inverted.

    For that the one network of the teacher needs gradients and batch normalisation, and an example is an image of one label.
    """
    able = {GRADIENT, BATCH_NORM} <= teacher.can and len(teacher.parts) == 1
    return SCORE if kind.measured == HELD_OUT and able and {IMAGES, ONE_LABEL} <= kind.has else kind.headline


def fair(method: type[Method]) -> bool:
    """Whether such images say anything of the method's students: of those that learned from DeepInversion's they flatter."""
    return not issubclass(method, deepinversion.Method)


def kept(job: Job, opened: Opened, runtime: rt.Runtime) -> Examples:
    """What `inverted` makes for a task, made once: it takes as long as 300,000 images through the teacher, and is then kept."""
    schedule = schedule_of(job.task.distill)
    code = plans.code({__name__})
    made_of = [sha256(job.places.teacher / WEIGHTS), schedule.augment, job.smoke, code, runtime.device.type, torch.__version__]
    file = FOLDER / job.name / f"{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.safetensors"
    with suppress(UserError):  # there is none, or a damaged one
        return pack(read_tensors(file)[0][INPUT])
    images = inverted(opened, schedule, runtime, f"invert {job.name}", job.smoke)
    shutil.rmtree(file.parent, ignore_errors=True)
    save_tensors(file, {INPUT: images.input})
    return images


def inverted(opened: Opened, schedule: Schedule, runtime: rt.Runtime, what: str, smoke: bool = False) -> Examples:
    """Images of every class equally often, always the same ones, made by DeepInversion from noise; `what` names them.

    It descends T's cross-entropy and the distance to T's batch-norm statistics (Yin et al. 2020, arXiv:1912.08795, eq. 4). At
    `smoke` scale they are few, and hardly begun.
    """
    count, steps = (LEAST, 2) if smoke else (COUNT, STEPS)
    blueprint, kind, teacher = opened
    rt.seed(0)
    about = (blueprint.mean or [], blueprint.std or [], blueprint.known)
    setting = Setting(kind, teacher, blueprint.build(), schedule, 0, runtime, {}, *about)
    together = max(LEAST, min(BATCH, count, PIXELS // math.prod(kind.form.shape[1:])))
    params = deepinversion.Method.Params(batch=together, pool=together, steps=steps, lr=RATE, bn=BN, adversarial=0.0)
    method = deepinversion.Method(setting, params)
    bar = progress(range(math.ceil(count / together)), what)
    made = [to_uint8(method.synthesise(kind.aims(together))[0]).cpu() for _ in bar]
    return pack(torch.cat(made)[:count])


def class_agreement(logits: Tensor, teacher: Tensor) -> float:
    """How often, in percent, a network answers as T (both (n, K)): the mean over the classes that T sees, each counted once."""
    seen, same = teacher.argmax(1), (logits.argmax(1) == teacher.argmax(1)).double()
    return 100 * torch.stack([same[seen == k].mean() for k in seen.unique()]).mean().item()
