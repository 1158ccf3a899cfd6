"""Classification of texts: token ids (n, L), [PAD] behind the end; logits (n, K), labels (n,)."""

from typing import Any

import torch
from torch import Tensor

from stages import kinds
from stages.datasets.examples import Examples
from stages.datasets.images import Augment
from stages.datasets.texts import TextForm
from stages.engine.streams import Batch
from stages.kinds._one_label import OneLabel
from stages.networks.weights import Blueprint
from stages.support.errors import UserError

SOME_WORD = 5  # not the padding of BERT or RoBERTa


class Kind(OneLabel):
    """One class a text. Nothing is augmented."""

    has = frozenset({kinds.TEXTS, kinds.ONE_LABEL})
    samples = 200  # of embeddings, which are large
    form: TextForm

    def blueprint(self, network: str, examples: Examples, model: dict[str, Any] | None = None) -> Blueprint:
        """With what a network must know of the vocabulary, and the configuration of an imported one.

        Raises UserError where that has no room for the texts.
        """
        assert examples.vocabulary is not None
        text: dict[str, Any] = {"length": self.form.length, **examples.vocabulary.tokens, "model": model}
        blueprint = Blueprint(network, examples.classes, examples.shape, text=text)
        if model is None:
            return blueprint
        for word, there, wanted in (
            ("vocab_size", "words", text["vocabulary"]),
            ("max_position_embeddings", "positions", text["length"]),
        ):
            if (room := model.get(word)) is not None and room < wanted:
                raise UserError(
                    f"the model has {room} {there}, the task's texts {wanted}; take its own `text.tokenizer`, "
                    "and a `text.length` that it has room for"
                )
        try:
            blueprint.build().eval()(self.blank(1))
        except (IndexError, RuntimeError):  # a RoBERTa has two positions fewer than it says
            raise UserError(f"the network has no room for {self.form.length} tokens; lower `text.length`") from None
        return blueprint

    def view(self, batch: Batch, augment: Augment) -> Batch:
        """Return the tokens unchanged: texts are not augmented."""
        return batch

    def changed(self, shape: tuple[int, ...], augment: Augment) -> bool:
        """Return False: no augmentation changes a text."""
        return False

    def blank(self, n: int) -> Tensor:
        """Texts of one word, over and over."""
        return torch.full((n, self.form.length), SOME_WORD)

    def plain(self, inputs: Tensor) -> Tensor:
        """Token ids as they are, embeddings in torch's default type."""
        return inputs.to(torch.get_default_dtype()) if inputs.is_floating_point() else inputs

    def stored(self, samples: Tensor) -> Tensor:
        """Embeddings in half precision; token ids as they are."""
        return samples.half() if samples.is_floating_point() else samples
