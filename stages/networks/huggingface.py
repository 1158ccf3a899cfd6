"""Encoders of texts by Hugging Face's library, which is in the group `text`: `uv sync --group text`."""

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn

from stages.support.errors import UserError
from stages.support.extras import optional

TEXTS = True
FORMS = {r"huggingface(?:_(\d+))?": "huggingface or huggingface_LAYERS"}


def build(match: re.Match[str], classes: int, form: dict[str, Any]) -> nn.Module:
    """The encoder that was imported, by its own configuration; or one of its kind with so many layers.

    Raises ValueError where none was imported.
    """
    if not form.get("model"):
        raise ValueError("the teacher was not imported from Hugging Face; write bert_LAYERS_WIDTH")
    # Whatever precision it was saved in: students are trained in full.
    model = {key: value for key, value in form["model"].items() if key not in ("dtype", "torch_dtype")}
    if "model_type" not in model:
        raise ValueError("its config.json names no `model_type`; add it (bert, roberta, ...)")
    config = library().AutoConfig.for_model(model.pop("model_type"), **model)
    config.num_labels = classes
    if match[1]:
        config.num_hidden_layers = int(match[1])
    return Encoder(config, form)


def library() -> Any:
    """`transformers`; raises UserError where it is not installed."""
    return optional("transformers", "text")


class Encoder(nn.Module):
    """A classifier of texts: token ids (B, L), or word embeddings (B, L, d), -> logits (B, classes).

    Embeddings stand where the look-up of words would be; positions, segments, normalisation and dropout come after it. Places of
    padding are [PAD] among ids and zero vectors among embeddings, and are masked.
    """

    wraps = takes_embeddings = True

    def __init__(self, config: Any, form: dict[str, Any]):
        super().__init__()
        self.net = library().AutoModelForSequenceClassification.from_config(config)
        if "inputs_embeds" not in inspect.signature(self.net.forward).parameters:
            raise ValueError(f"a {config.model_type} takes no embeddings as inputs")
        self.pad, self.cls, self.sep, self.mask = (int(form[word]) for word in ("pad", "cls", "sep", "mask"))
        self.register_buffer("pieces", _pieces(form), persistent=False)

    pieces: Tensor  # the ids of all pieces of words

    @property
    def table(self) -> Tensor:
        """The embeddings of all words, (V, d)."""
        found: Tensor = self.net.get_input_embeddings().weight
        return found

    @property
    def hidden(self) -> int:
        """The width of the last layer's states."""
        return int(self.net.config.hidden_size)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.net(**self._given(inputs)).logits
        return logits

    def states(self, inputs: Tensor) -> Tensor:
        """The last layer's hidden states (B, L, hidden)."""
        found: Tensor = self.net.base_model(**self._given(inputs)).last_hidden_state
        return found

    def shallower(self, deep: "Encoder", how: str) -> dict[str, Tensor]:
        """What the stored network starts from: all of a `deep` one but its layers, and as many of these as this one has.

        They are evenly spaced with the last (`spread`), or the `first`. Raises UserError where the deep one has fewer.
        """
        (name, mine), (_, theirs) = self._layers(), deep._layers()
        if len(mine) > len(theirs):
            raise UserError(f"a student of {len(mine)} layers cannot start from a teacher of {len(theirs)}; take fewer layers")
        places = range(len(mine))
        chosen = [(place + 1) * len(theirs) // len(mine) - 1 for place in places] if how == "spread" else places
        state = {key: value for key, value in deep.net.state_dict().items() if not key.startswith(f"{name}.")}
        for place, layer in zip(places, chosen, strict=True):
            state |= {f"{name}.{place}.{key}": value for key, value in theirs[layer].state_dict().items()}
        return state

    def _layers(self) -> tuple[str, nn.ModuleList]:
        """The list of layers, and its name."""
        for name, module in self.net.named_modules():
            if isinstance(module, nn.ModuleList) and len(module) == self.net.config.num_hidden_layers:
                return name, module
        raise UserError(f"a {self.net.config.model_type} has no list of its layers; name the modules to copy instead")

    def _given(self, inputs: Tensor) -> dict[str, Tensor]:
        if inputs.is_floating_point():
            return {"inputs_embeds": inputs, "attention_mask": (inputs != 0).any(2).long()}
        return {"input_ids": inputs, "attention_mask": (inputs != self.pad).long()}


def _pieces(form: dict[str, Any]) -> Tensor:
    known = torch.ones(form["vocabulary"], dtype=torch.bool)
    known[form["special"]] = False
    return known.nonzero().flatten()
