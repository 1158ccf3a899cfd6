"""Stage `curate`: score the OOD examples with the teacher and keep the pool that methods draw from.

Usage: python -m stages.curate TASK
"""

import csv
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.curation.rules import Scores, open_rule
from stages.curation.scores import effective_classes, quantiles, standing_out
from stages.curation.weights import class_deviations, effective, matching, mismatch, sketched
from stages.datasets.examples import CONFIDENCE, INPUT, LOGITS, ODD, PACK_GB, PREDICTED, Examples, pack
from stages.datasets.stamps import notice_changes
from stages.engine.teacher import ASKED, BATCH_NORM, FEATURES, STAGES, Teacher
from stages.jobs.job import open_job
from stages.jobs.setup import keeps_logits, open_teacher
from stages.jobs.sharded import Shards
from stages.kinds import IMAGES, ONE_LABEL, Kind, aspect
from stages.networks.answers import Answers, stored
from stages.networks.deviations import deviations
from stages.networks.taps import classifier, logits_and_features
from stages.networks.template import Template
from stages.settings.task import HELD_OUT, Task
from stages.support.errors import UserError, about, placed, run_script
from stages.support.files import read_json, replacing, replacing_folder, save_tensors, write_json
from stages.support.progress import progress
from stages.support.seeds import shuffled

BATCH = 256
HEARD = 64  # images at a time where all that enters batch normalisation is kept
REFERENCE = 1000  # images that say how much the impressions of images vary
MOST = 0.75  # a class's share of the pool from which on it is said
NOISE, SAME = 256, 0.005  # images of noise, and how near the mean confidence in them is to that in the pool where it is said


def main(name: str) -> None:
    """Write the pool with the teacher's logits, the scores of every OOD example, the list of those kept, and a summary."""
    job = open_job("curate", name)
    task, places = job.task, job.places
    notice_changes(places.sources, name)
    rule = open_rule(name, task.curate, job.run.scale)
    matched: dict[str, Any] = {}
    _, kind, teacher = open_teacher(places, task, job.measuring())
    if rule.weights == "moments" and not {BATCH_NORM, ONE_LABEL} <= teacher.can | kind.has:
        raise UserError(
            f"task.{name}.curate.weights: `moments` takes a teacher with running statistics (BatchNorm2d) and "
            "one label an image; take `none`: methods that compose images make the classes even by themselves"
        )
    if rule.features and FEATURES not in teacher.can:
        raise UserError(f"task.{name}.curate.keep: `{rule.keep}` takes a teacher whose last layer is known; take another rule")
    logits, asked = None, None
    shards = Shards(job) if places.shards.exists() else None
    if shards:
        scores, features = shards.scores()
    else:
        ood = Examples.load(places.split("ood"))
        if (told := stored(teacher)) is not None:
            ood, asked = _answered(name, told, ood)
        scores, logits, features = scored(name, kind, teacher, ood, rule.features)
        if rule.impressions:
            scores["impression"] = _impressions(name, kind, teacher, ood)
    n = len(scores[PREDICTED])
    count = min(rule.count or math.ceil(n / 2), n)
    scores |= rule.scores(scores, features, classifier(teacher) if rule.features else None)
    shares, classes = scores.pop("shares"), len(kind.classes)
    rows = rule.choose(scores, count, classes).sort().values
    if shards:
        pool, overlap = _apart(task, name, shards.kept(rows), Examples.load(places.known))
        rows = pool.index
        if keeps_logits(kind, len(pool)):
            pool = pool.having(logits=kind.answers(teacher, pool, BATCH))
    else:
        pool = _packed(ood.subset(rows))
        split = rows if asked is None else asked[rows]
        overlap = len(set(read_json(places.overlap)["near_duplicates"]) & set(split.tolist()))
        if logits is not None:
            pool = pool.having(logits=logits[rows])
    pool = pool.having(**{key: scores[key][rows] for key in (PREDICTED, CONFIDENCE)})
    if rule.weights == "moments":
        weights, matched = _weights(name, kind, teacher, pool)
        pool = pool.having(weight=weights)
    facts = summary(scores, shares, rows) | matched | {"near_duplicates_of_test": overlap}
    with replacing_folder(places.pool) as folder:
        pool.save(folder / "pool.safetensors")
        save_tensors(folder / "scores.safetensors", {**scores, "rows": rows, **({} if asked is None else {"asked": asked})})
        _write_index(folder / "index.csv", pool, {key: value[rows] for key, value in scores.items()})
        write_json(folder / "summary.json", facts)
    if (rule.count or 0) > n:
        print(placed(f"task.{name}.curate.count: it is {rule.count:,}, and there are {n:,} images: all are kept"))
    empty = facts["histogram_after"].count(0)
    print(
        f"pool of {name}: {len(rows)} of {n} images ({rule.keep}), mean confidence {facts['confidence']:.3f}, "
        f"{facts['effective_classes_after']:.1f} effective classes of {classes}"
    )
    if empty:
        print(f"the teacher takes no image of the pool for {empty} of {classes} classes")
    for line in doubts(kind, teacher, facts):
        print(f"look here: {line}")
    if overlap:
        print(f"warning: {overlap} images of the pool are, or nearly are, images of the in-domain test split")


def scored(
    name: str, kind: Kind, teacher: Teacher, ood: Examples, with_features: bool
) -> tuple[Scores, Tensor | None, Tensor | None]:
    """What the kind says of every example, with the class `predicted`; T's logits, where they fit; its features, if asked for."""
    kept, logits, features, said = keeps_logits(kind, len(ood)), [], [], []
    batches = progress(kind.shown(ood, BATCH), f"score {name}", total=math.ceil(len(ood) / BATCH))
    asked = [(ood.columns[LOGITS], None)] if LOGITS in ood.columns else logits_and_features(teacher, batches, with_features)
    for answer, heard in asked:
        said.append(kind.summary(answer))
        logits += [answer] if kept else []
        features += [] if heard is None else [heard]
    if not kept:
        print(f"{name}: the teacher's logits of the pool are not kept, there are too many; methods ask it again")
    scores = {key: torch.cat([one[key] for one in said]) for key in said[0]}
    scores[PREDICTED] = standing_out(scores["shares"])
    return scores, torch.cat(logits) if logits else None, torch.cat(features) if features else None


def doubts(kind: Kind, teacher: Teacher, facts: dict[str, Any]) -> list[str]:
    """Why the teacher's answers to the pool may teach little: few classes for most of it, or noise that is as clear to it."""
    counts, found = facts["histogram_after"], []
    if ONE_LABEL in kind.has and len(counts) > 2 and (most := max(counts)) > MOST * sum(counts):
        found.append(
            f"the teacher calls {100 * most / sum(counts):.0f} % of the pool '{kind.classes[counts.index(most)]}'. Check its "
            "mean, std, range and order. If they are right, go on: other things often look like few classes. More varied images "
            "help" + (", and so may `fast`, which needs no pool" if BATCH_NORM in teacher.can else "")
        )
    elif ONE_LABEL in kind.has and facts["effective_classes_after"] < len(counts) / 2:
        found.append(
            f"the teacher sees {facts['effective_classes_after']:.1f} effective classes of {len(counts)} in the pool: give more "
            "varied images, or take a method that makes images of every class (`mosaickd`, `fast`, `tessera`)"
        )
    if ASKED in teacher.can and IMAGES in kind.has:
        noise = torch.randint(0, 256, (NOISE, *kind.blank(1).shape[1:]), generator=torch.Generator().manual_seed(0))
        sure = kind.summary(kind.answers(teacher, pack(noise.to(torch.uint8))))["confidence"].mean().item()
        if abs(sure - facts["confidence"]) < SAME:
            found.append(
                f"the teacher is as sure of noise ({sure:.3f}) as of the pool ({facts['confidence']:.3f}): its answers may say "
                "nothing of what is in an image; check its mean, std and range"
            )
    return found


def _answered(name: str, told: Answers, ood: Examples) -> tuple[Examples, Tensor]:
    """The images to which there is an answer of a teacher that cannot be asked, with these logits; and their rows in `ood`."""
    where = f"task.{name}.teacher.answers"
    with about(where):
        logits = told.of(ood.files or [""] * len(ood))
    rows = (~logits.isnan().any(1)).nonzero().flatten()
    known = ood.having(logits=logits).subset(rows)
    print(f"{name}: there is an answer to {len(known):,} of {len(ood):,} OOD images; the others are left out")
    if not len(known):
        some = f"one is {ood.files[0]}" if ood.files else "these have no files"
        raise UserError(
            f"{where}: none is to an OOD image ({some}); its names, such as '{told.first}', are to be ends of such paths"
        )
    return known, rows


def _apart(task: Task, name: str, pool: Examples, known: Examples) -> tuple[Examples, int]:
    """A pool of shards without what measures students, where that was held out; else with it, and how many images that are."""
    twins = aspect(task.kind, "splits").twins(pool, known, f"{name}: look for test images in the pool")
    if task.measured != HELD_OUT:
        return pool, len(twins)
    if not len(left := pool.without(twins)):
        raise UserError(f"task.{name}.ood: every image that was kept is, or nearly is, one that measures students; give others")
    if len(twins):
        print(
            f"{name}: {len(twins):,} images that were kept are, or nearly are, ones that measure students; {len(left):,} are left"
        )
    return left, 0


def _packed(pool: Examples) -> Examples:
    """The pool with its images, read from their folder where that is what they took so far and they are few."""
    if pool.packed or len(pool) * math.prod(pool.shape) > PACK_GB * 1e9:
        return pool
    return pool.having(**{INPUT: pool.all_inputs()})


def summary(scores: Scores, shares: Tensor, rows: Tensor) -> dict[str, Any]:
    """Size, means over the pool, quantiles of every score, and the classes that the teacher sees, before and after."""
    facts: dict[str, Any] = {"images": len(rows), "of": len(shares)}
    facts |= {key: scores[key][rows].mean().item() for key in ("entropy", "confidence")}
    facts["quantiles"] = {
        when: {key: quantiles(value[mine]) for key, value in scores.items() if value.is_floating_point()}
        for when, mine in (("before", slice(None)), ("after", rows))
    }
    for when, chosen in (("before", shares), ("after", shares[rows])):
        facts[f"effective_classes_{when}"] = effective_classes(chosen)
        facts[f"histogram_{when}"] = chosen.sum(0).round().long().tolist()
    return facts


def _impressions(name: str, kind: Kind, teacher: Teacher, ood: Examples) -> Tensor:
    """How far each image's impression is from that of the teacher's training set, (n,)."""
    if not {BATCH_NORM, STAGES} <= teacher.can:
        raise UserError(
            f"task.{name}.curate.keep: `impression` takes one teacher with named stages and running statistics "
            "(BatchNorm2d); take another rule"
        )
    template = Template.of(teacher, torch.zeros(1, *ood.shape))
    template = template.scaled(kind.shown(ood.subset(shuffled(len(ood))[:REFERENCE]), HEARD))
    remembered = template.remembered().to(torch.device("cpu"))
    batches = progress(kind.shown(ood, HEARD), f"impressions of {name}", total=math.ceil(len(ood) / HEARD))
    return torch.cat([template.encoded([images]).distance(remembered) for images in batches])


def _weights(name: str, kind: Kind, teacher: Teacher, pool: Examples) -> tuple[Tensor, dict[str, Any]]:
    """Weights (n,) of the pool, and how far its classes and moments are from the teacher's training data, before and after."""
    batches = progress(kind.shown(pool, HEARD), f"moments of {name}", total=math.ceil(len(pool) / HEARD))
    moments, graded = sketched(deviations(teacher, batches))
    logits = pool.columns[LOGITS] if LOGITS in pool.columns else kind.answers(teacher, pool, BATCH)
    classes = class_deviations(logits.softmax(1))
    weights, penalty = matching(torch.cat([classes, moments], 1))
    even = torch.full_like(weights, 1 / len(weights))
    facts = {
        f"{what}_mismatch_{when}": mismatch(w, rows)
        for when, w in (("before", even), ("after", weights))
        for what, rows in (("classes", classes), ("moments", graded))
    }
    worth = effective(weights)
    print(
        f"weights of {name}: mismatch of classes {facts['classes_mismatch_before']:.3g} -> "
        f"{facts['classes_mismatch_after']:.3g}, of moments {facts['moments_mismatch_before']:.3g} -> "
        f"{facts['moments_mismatch_after']:.3g}; worth {worth:,.0f} of {len(weights):,} images"
    )
    return weights, {**facts, "weights_penalty": penalty, "weights_worth": worth}


def _write_index(path: Path, pool: Examples, scores: dict[str, Tensor]) -> None:
    """The kept examples, by their place in the source, the file they are from, if any, and what is said of them."""
    columns = {"index": pool.index.tolist(), **({"file": pool.files} if pool.files else {})}
    columns |= {key: [f"{number:.5g}" for number in value.tolist()] for key, value in scores.items()}
    with replacing(path) as temporary, temporary.open("w", newline="", errors=ODD) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


if __name__ == "__main__":
    run_script(main, "task")
