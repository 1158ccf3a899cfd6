"""BERT (Devlin et al. 2019, arXiv:1810.04805) of any size, with fresh weights."""

import re
from typing import Any

from torch import nn

from stages.networks.huggingface import Encoder, library

TEXTS = True
FORMS = {r"bert_(\d+)_(\d+)": "bert_LAYERS_WIDTH"}
HEAD, HEADS = 64, 4  # the width of a head, of which there are four at least


def build(match: re.Match[str], classes: int, form: dict[str, Any]) -> nn.Module:
    """BERT for the vocabulary and length of `form`; raises ValueError for a width that its heads do not divide."""
    layers, width = int(match[1]), int(match[2])
    heads = max(HEADS, width // HEAD)
    if width % heads:
        raise ValueError(f"its {heads} heads do not divide a width of {width}")
    config = library().BertConfig(
        vocab_size=form["vocabulary"],
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=form["length"],
        pad_token_id=form["pad"],
        num_labels=classes,
    )
    return Encoder(config, form)
