"""The one place, with all its words, that tells a user why a method cannot run on a task."""

from collections.abc import Set
from typing import Any

from stages.engine.teacher import BATCH_NORM, EMBEDDINGS, GRADIENT, MAPS, STAGES
from stages.kinds import IMAGES, ONE_LABEL, TEXTS
from stages.methods.bases.method import Method
from stages.settings.task import STUDENT_DOMAIN

WANTED = {
    GRADIENT: "a teacher whose logits have gradients; this one can only be asked",
    BATCH_NORM: "a teacher with batch normalisation that keeps running statistics",
    MAPS: "teachers and a student that name their stages (all of ours, torchvision's ResNets)",
    STAGES: "a teacher of one network and a student that name their stages (all of ours, torchvision's ResNets)",
    EMBEDDINGS: "a teacher that takes embeddings as inputs",
    IMAGES: "images",
    TEXTS: "texts",
    ONE_LABEL: "one label an example",
    STUDENT_DOMAIN: "labelled examples of the student's domain: `ood: {source: student_domain, ...}`",
}


def why_not(method: type[Method], params: Any, kind: Set[str], can: Set[str], data: Set[str]) -> str | None:
    """Why `method` with `params` cannot run on a task; None where it can.

    `kind` is what the kind of task has (images, one_label); `can` what teacher and student can, in the words of `Teacher.can`;
    `data` what there is: pool, in_domain, labels, student_domain.
    """
    for word in (*sorted(method.of_kind - kind), *sorted(method.sees - data), *sorted(method.needs(params) - can)):
        return f"needs {WANTED.get(word, word)}"
    return None
