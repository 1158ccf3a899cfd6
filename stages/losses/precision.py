"""Losses are computed in fp32 at least, whatever the precision of the forwards."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def exact(loss: Callable[P, R]) -> Callable[P, R]:
    """`loss` outside of autocast, which would turn its matrix products back to half precision."""

    @functools.wraps(loss)
    def outside(*inputs: P.args, **options: P.kwargs) -> R:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return loss(*inputs, **options)

    return outside


def full(x: Tensor) -> Tensor:
    """`x` in at least fp32: losses are not computed in the half precision of a forward."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
