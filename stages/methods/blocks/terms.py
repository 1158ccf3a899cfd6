"""Named, weighted loss terms."""

import torch
from torch import Tensor

Terms = dict[str, tuple[float, Tensor]]  # name -> weight and value


def weighted(terms: Terms) -> Tensor:
    """The sum of weight times value: what is descended."""
    return torch.stack([weight * term for weight, term in terms.values()]).sum()


def values(terms: Terms) -> dict[str, Tensor]:
    """The values without their graph: what is logged."""
    return {name: term.detach() for name, (_, term) in terms.items()}
