"""Stage `prepare`: fetch or build a task's examples, split them, and pack each split into one file.

Usage: python -m stages.prepare TASK
"""

from typing import Any

from stages import kinds
from stages.datasets.examples import LABEL, Examples
from stages.datasets.stamps import stamps
from stages.jobs.job import open_job
from stages.settings.task import SMOKE_IMAGES, StudentDomain, Task
from stages.support.errors import UserError, about, run_script
from stages.support.files import replacing_folder, write_json
from stages.support.seeds import shuffled

FIRST, HELD = 0.8, 0.1  # parts of a student domain: train, val; and val of what has a test part of its own


def main(name: str) -> None:
    """Write one task's in-domain splits, its OOD examples, which of these are in test too, and the student's domain."""
    job = open_job("prepare", name)
    task, places = job.task, job.places
    kinds.check_form(task, f"task.{name}")
    form, kind = task.form, kinds.aspect(task.kind, "splits")

    with about(f"task.{name}.in_domain"):
        labelled, test = task.in_domain.read(form), task.in_domain.read_test(form)
    if task.teachers:
        kind.check(labelled, f"task.{name}.in_domain")
        labelled, test = (part and _ordered(part, task, f"task.{name}") for part in (labelled, test))
    val = task.split.val if test is None else HELD
    splits = split(kind, labelled, test, f"task.{name}.in_domain", val, task.split.test)
    shifted: dict[str, Examples] = {}
    if isinstance(task.ood, StudentDomain):
        source = task.ood.images
        where = f"task.{name}.ood"
        wanted = (task.ood.val or HELD, 0.0, task.ood.train or FIRST)
        with about(f"{where}.images"):
            moved, moved_test = source.read(form), source.read_test(form)
        shifted = split(kind, moved, moved_test, f"{where}.images", *wanted)
        if shifted["train"].classes != labelled.classes:
            raise UserError(
                f"{where}: the student domain has classes {_short(shifted['train'].classes)}, the teacher "
                f"{_short(labelled.classes)}; they must be the same, so rename or leave out folders (`classes`)"
            )
    with about(f"task.{name}.ood"):
        splits["ood"] = shifted["train"].unlabelled() if shifted else task.ood.read(form.trained)

    limit = SMOKE_IMAGES if job.smoke else None
    with replacing_folder(places.data) as new:
        pack = kind.packer(splits["train"], form, new / places.split("train").parent.name)
        splits = {part: pack(_first(examples, limit)) for part, examples in splits.items()}
        shifted = {part: pack(_first(examples, limit)) for part, examples in shifted.items()}
        files = {places.split(part): (part, examples) for part, examples in splits.items()}
        files |= {places.student_domain(part): (f"student domain, {part}", shifted[part]) for part in shifted}
        for path, (what, examples) in files.items():
            examples.save(new / path.relative_to(places.data))
            print(f"{what}: {len(examples)} examples, {len(examples.classes)} classes")
        overlap = new / places.overlap.relative_to(places.data)
        write_json(overlap, _overlap(kind, name, splits, shifted))
        write_json(new / places.sources.name, stamps(task.model_dump(mode="json")))


def _overlap(kind: Any, name: str, splits: dict[str, Examples], shifted: dict[str, Examples]) -> dict[str, Any]:
    """Which OOD examples stand in the test split, and how many test examples of the student's domain in its training split."""
    rows = kind.twins(splits["ood"], splits["test"], f"{name}: look for test examples in ood")
    found = {"of": len(splits["ood"]), "near_duplicates": rows.tolist()}
    if shifted:
        what = f"{name}: look for training examples in the student domain's test"
        known = kind.twins(shifted["test"], shifted["train"], what)
        found["student_domain_test_in_train"] = len(known)
        print(f"student domain: {len(known)} of {len(shifted['test'])} test examples are, or nearly are, training examples")
    return found


def split(
    kind: Any, labelled: Examples, test: Examples | None, where: str, val: float, held: float, train: float | None = None
) -> dict[str, Examples]:
    """train, val and test of a labelled set, `test` split off where the source has none of its own.

    `train` and `val` are numbers of images, met about, or parts of the set; without `train`, test is the part `held`, val a part
    of what is left, and train the rest.
    Raises UserError for a set without labels, with a class of too few images, or with other classes in its test part.
    """
    kind.check(labelled, where)
    if test is not None and test.classes != labelled.classes:
        raise UserError(
            f"{where}: train has classes {_short(labelled.classes)}, test has {_short(test.classes)}; make them the same"
        )
    if test is not None:
        kind.check(test, f"{where}: its test part", least=0)
    if train is None:
        if test is None:
            labelled, test = kind.held_out(labelled, held)
        labelled, second = kind.held_out(labelled, val)
        return {"train": labelled, "val": second, "test": test}
    n = len(labelled)
    wanted = [round(part * n) if part < 1 else int(part) for part in (train, val)]
    if sum(wanted) + (test is None) * len(labelled.classes) > n:
        raise UserError(
            f"{where}: {n} examples do not make {wanted[0]} for train, {wanted[1]} for val and some for test; lower them"
        )
    rest, chosen = kind.held_out(labelled, wanted[0] / n, leave=1 + (test is None))
    rest, second = kind.held_out(rest, wanted[1] / len(rest), leave=int(test is None))
    return {"train": chosen, "val": second, "test": rest if test is None else test}


def _ordered(examples: Examples, task: Task, where: str) -> Examples:
    """The examples with their classes in the order of the teachers' logits."""
    known = [part.names() for part in task.teachers]
    classes = tuple(name for part in known for name in part)
    if len(set(classes)) < len(classes) or set(classes) != set(examples.classes) or LABEL not in examples.columns:
        odd = sorted(set(classes) ^ set(examples.classes)) or sorted({name for name in classes if classes.count(name) > 1})
        raise UserError(
            f"{where}.teachers: each class of the in-domain data has one teacher, and they no others; "
            f"look at {', '.join(odd[:5]) or 'the labels, of which there are none'}"
        )
    return examples.of(classes)


def _first(examples: Examples, limit: int | None) -> Examples:
    """At most `limit` examples, a seeded draw in the order of the source."""
    if limit is None or len(examples) <= limit:
        return examples
    return examples.subset(shuffled(len(examples))[:limit].sort().values)


def _short(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:12]) + (f", ... ({len(classes)} in all)" if len(classes) > 12 else "")


if __name__ == "__main__":
    run_script(main, "task")
