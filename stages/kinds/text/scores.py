"""How well a classifier of texts does: as one of images."""

from stages.kinds.classification.scores import COLUMNS, NOTE, scores, write_predictions

__all__ = ["COLUMNS", "NOTE", "scores", "write_predictions"]
