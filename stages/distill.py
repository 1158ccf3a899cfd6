"""Stage `distill`: train one student with one method and one seed.

Usage: python -m stages.distill TASK METHOD SEED
"""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from stages import models, params, paths
from stages.datasets import ImageSet
from stages.datasets.images import to_uint8
from stages.engine import runtime as rt
from stages.engine.checkpoint import fingerprint, until_done
from stages.engine.loop import train, write_curve
from stages.engine.players import Teacher
from stages.errors import UserError, run_script
from stages.files import save_tensors, write_json
from stages.kinds.classification import Probe
from stages.methods import Method, Schedule, Setting
from stages.params import method_class

SAMPLES = 1000


def main(name: str, label: str, seed_text: str) -> None:
    """Write the student's weights, card, learning curve and, where the method makes images, samples of them."""
    settings, seed = params.load(), _seed(seed_text)
    run, task = settings.run, settings.task(name)
    section = settings.method_section(label, name)
    kind = method_class(settings.method_of(label))
    if kind.shifted and not task.student_domain:
        raise UserError(
            f"method {label} needs labelled images of the student's domain: give task.{name}.ood the source student_domain, or "
            f"leave {label} out of `run.methods` and `run.ablations`"
        )
    shifted = paths.student_domain(name, "train") if task.student_domain else None
    teacher_folder, pool_folder = paths.teacher(name), paths.pool(name)
    inputs = [teacher_folder / models.WEIGHTS, pool_folder / "pool.safetensors", paths.split(name, "train")]
    inputs += [shifted] if shifted else []
    pool = ImageSet.load(inputs[1])
    key = fingerprint(name, label, seed, section, task, run.precision, files=inputs)
    with rt.running(run.precision, run.compile) as runtime, until_done(key, run, runtime.rank) as checkpoint:
        made_for, teacher_net = models.load(teacher_folder)
        teacher = Teacher(runtime.place(teacher_net), made_for.network)
        blueprint = models.Blueprint(**{**made_for.__dict__, "network": task.distill.student})
        d = task.distill
        rt.seed(seed)
        method: Method = kind(
            Setting(
                teacher,
                net := blueprint.build(),
                Schedule(d.student_steps, 2 * d.batch, d.lr, d.weight_decay, d.augment),
                seed,
                runtime,
                blueprint.mean,
                blueprint.std,
                pool=pool,
                pool_logits=load_file(pool_folder / "scores.safetensors")["logits"],
                in_domain=ImageSet.load(inputs[2]) if kind.upper_bound else None,
                student_domain=ImageSet.load(shifted) if shifted and kind.shifted else None,
                channels=pool.channels,
                size=pool.size,
                classes=len(blueprint.classes),
            ),
            section,
        )
        val = paths.student_domain(name, "val") if shifted else paths.split(name, "val")
        probe = Probe(net, ImageSet.load(val), runtime, teacher.net)
        curve = train(method, runtime, seed, checkpoint, probe, f"{label} {name} seed {seed}")
        if runtime.rank == 0:
            folder = paths.student(name, label, seed)
            write_json(folder / "cost.json", method.cost.totals())
            facts = {"made": f"distilled with {label}", "task": name, "seed": seed, **section.model_dump()}
            models.save(folder, blueprint, net, facts)
            rt.seed(seed)
            _save_samples(method.samples(SAMPLES), teacher, folder)
            write_curve(paths.curve(name, label, seed), curve)


def _save_samples(images: Tensor | None, teacher: Teacher, folder: Path) -> None:
    """What the method's images look like and what the teacher sees in them, for the report's figures."""
    if images is None:
        return
    logits = teacher.logits(images)
    save_tensors(folder / "samples.safetensors", {"images": to_uint8(images.clamp(0, 1)), "logits": logits})


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"the seed is a whole number of 0 or more, not '{text}'")
    return int(text)


if __name__ == "__main__":
    run_script(main, "task", "method", "seed")
