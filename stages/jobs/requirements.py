"""The one place, with all its words, that tells a user why a method cannot run on a task."""

from collections.abc import Set
from typing import Any

from stages.engine.teacher import ASKED, BATCH_NORM, EMBEDDINGS, FEATURES, GRADIENT, MAPS, STAGES
from stages.kinds import IMAGES, ONE_LABEL, TEXTS
from stages.methods.bases.method import IN_DOMAIN, LABELS, Method
from stages.settings.task import STUDENT_DOMAIN

WANTED = {
    ASKED: "a teacher that can be asked of any image; of this one there are answers to the pool's images alone",
    FEATURES: "a teacher whose last layer is known, so that what enters it can be seen",
    GRADIENT: "a teacher whose logits have gradients; this one can only be asked",
    BATCH_NORM: "a teacher with batch normalisation that keeps running statistics",
    MAPS: "teachers and a student that name their stages (all of ours, torchvision's ResNets)",
    STAGES: "a teacher of one network and a student that name their stages (all of ours, torchvision's ResNets)",
    EMBEDDINGS: "a teacher that takes embeddings as inputs",
    IMAGES: "images",
    TEXTS: "texts",
    ONE_LABEL: "one label an example",
    IN_DOMAIN: "in-domain examples, which this task has not (`in_domain`)",
    LABELS: "labels of in-domain examples, which this task has not (`in_domain`)",
    STUDENT_DOMAIN: "labelled examples of the student's domain: `ood: {source: student_domain, ...}`",
}


def why_not(method: type[Method], params: Any, kind: Set[str], can: Set[str], data: Set[str]) -> str | None:
    """Why `method` with `params` cannot run on a task; None where it can.

    `kind` is what the kind of task has (images, one_label); `can` what teacher and student can, in the words of `Teacher.can`;
    `data` what there is: pool, in_domain, labels, student_domain.
    """
    needs = method.needs(params) | (frozenset() if method.answered else {ASKED})
    for word in (*sorted(method.of_kind - kind), *sorted(method.sees - data), *sorted(needs - can)):
        return f"needs {WANTED.get(word, word)}"
    return None
