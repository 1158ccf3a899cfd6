"""The one place that says why a method cannot run on a task."""

from collections.abc import Set
from typing import Any

from stages.families.method import STUDENT_DOMAIN, Method

WANTED = {
    "gradient": "a teacher whose logits have gradients; this one can only be asked",
    "batch_norm": "a teacher with batch normalisation that keeps running statistics",
    "stages": "a teacher of one network that names its stages (convnet, wrn, resnet, vgg11)",
    "embeddings": "a teacher that takes embeddings as inputs",
}


def why_not(method: type[Method], params: Any, kind: str, can: Set[str], data: Set[str]) -> str | None:
    """Why `method` with `params` cannot run on a task of this `kind`, with a teacher that `can` and such `data`; else None.

    `can` are words of `Teacher.can`; `data` is what the task has: pool, in_domain, labels, student_domain.
    """
    if kind not in method.kinds:
        return f"serves {' and '.join(sorted(method.kinds))}, not {kind}"
    for word in sorted(method.sees - data):
        if word == STUDENT_DOMAIN:
            return "needs labelled examples of the student's domain: `ood: {source: student_domain, ...}`"
        return f"needs {word}, which the task has not"
    for word in sorted(method.needs(params) - can):
        return f"needs {WANTED[word]}"
    return None
