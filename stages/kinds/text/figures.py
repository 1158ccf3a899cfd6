"""What texts look like, in tables: those of the pool, those that methods made up, those of the domain."""

from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.datasets.examples import Examples
from stages.datasets.texts import Vocabulary
from stages.engine.teacher import Teacher
from stages.kinds.classification.figures import predictions, seen_as
from stages.networks.adapter import inside
from stages.reporting.figures.panels import first_samples
from stages.reporting.figures.pool import ranked
from stages.settings.paths import Places
from stages.support.files import replacing

__all__ = ["extremes", "predictions", "samples"]

ROWS, PIECES, CLASSES = 2, 24, 20  # texts of a class and a set; pieces of words of a text; classes


def samples(places: Places, kind: Any, teacher: Teacher, students: pd.DataFrame) -> None:
    """samples.md: texts of the pool, of each method's first seed and of the domain, by the class that the teacher sees.

    Embeddings are shown as the nearest pieces of words, by cosine.
    """
    pool, val = Examples.load(places.pool / "pool.safetensors"), Examples.load(places.split("val"))
    shown = [("OOD pool", *seen_as(kind, teacher, pool)), *first_samples(places, students)]
    shown.append((kind.held, *seen_as(kind, teacher, val)))
    rows = []
    for place, name in enumerate(kind.classes[:CLASSES]):
        for title, inputs, predicted in shown:
            rows += [(name, title, text) for text in _readable(inputs[predicted == place][:ROWS], teacher, val.vocabulary)]
    _write(places, "samples", pd.DataFrame(rows, columns=["class that the teacher sees", "of", "text"]))


def extremes(places: Places, kind: Any) -> None:
    """pool-extremes.md: the texts of each class of which the teacher is most sure, and those of which it is least."""
    ood, (order, predicted, unit) = Examples.load(places.split("ood")), ranked(places)
    rows = []
    for which, ranks in (("best", order), ("worst", order.flip(0))):
        for place, name in enumerate(kind.classes[:CLASSES]):
            mine = ranks[predicted[ranks] == place][:ROWS]
            rows += [(which, name, text) for text in _readable(ood.input[mine], None, ood.vocabulary)]
    _write(places, "pool-extremes", pd.DataFrame(rows, columns=[f"by {unit}", "class that the teacher sees", "text"]))


def words(inputs: Tensor, table: Tensor, pieces: Tensor) -> Tensor:
    """The nearest of the `pieces` (ids) of a `table` (V, d) to each of the embeddings (..., d), by cosine: ids (...)."""
    unit = F.normalize(table[pieces].float(), dim=1)
    return pieces[(F.normalize(inputs.float(), dim=-1) @ unit.T).argmax(-1)]


def _readable(inputs: Tensor, teacher: Teacher | None, vocabulary: Vocabulary | None) -> list[str]:
    """Texts of ids (n, L), or of embeddings (n, L, d), of the same vocabulary."""
    assert vocabulary is not None
    found = []
    for one in inputs:
        if one.is_floating_point():
            encoder: Any = inside(teacher.parts[0]) if teacher else None
            inner = one[(one != 0).any(1)][1:-1][:PIECES]
            ids = words(inner, encoder.table.cpu(), encoder.pieces.cpu())
        else:
            known = ~torch.isin(one, torch.tensor(vocabulary.special))
            ids = one[known][:PIECES]
        text = " ".join(vocabulary.words[i] for i in ids.tolist()).replace(" ##", "")
        found.append(text.replace("|", "\\|"))
    return found


def _write(places: Places, name: str, frame: pd.DataFrame) -> None:
    with replacing(places.figures / f"{name}.md") as temporary:
        temporary.write_text(frame.to_markdown(index=False, disable_numparse=True) + "\n")
