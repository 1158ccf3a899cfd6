"""A bounded memory of the newest rows of some tensors, which a checkpoint takes along."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stages.engine.runtime import Runtime
from stages.support.errors import UserError

RowType = tuple[tuple[int, ...], torch.dtype]  # shape and type of one row


class Ring:
    """The last `capacity` rows of the named tensors of `form`, on the device; all ranks hold the same rows.

    Raises UserError that names `key` if it would take more than half of the device's memory.
    """

    def __init__(self, capacity: int, form: dict[str, RowType], runtime: Runtime, key: str):
        needed = capacity * sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in form.values())
        room = _memory(runtime.device) // 2
        if needed > room:
            raise UserError(
                f"{key}: {capacity:,} rows need {needed / 2**30:,.1f} GiB, more than half of the device's memory "
                f"({room / 2**30:,.1f} GiB); lower it"
            )
        self.capacity, self.runtime = capacity, runtime
        self.total = 0  # rows ever appended
        self.rows = {
            name: torch.zeros((capacity, *shape), dtype=dtype, device=runtime.device) for name, (shape, dtype) in form.items()
        }

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    def append(self, **rows: Tensor) -> None:
        """Add this rank's rows of every tensor, and those of the other ranks; the oldest give way."""
        for name, mine in rows.items():
            everyone = self.runtime.gather(mine.detach().to(self.rows[name].dtype))
            places = torch.arange(self.total, self.total + len(everyone), device=self.runtime.device) % self.capacity
            self.rows[name][places[-self.capacity :]] = everyone[-self.capacity :]
        self.total += len(everyone)

    def draw(self, count: int) -> Tensor:
        """Numbers of `count` different rows, of all where there are fewer; the same on every rank."""
        rows = torch.randperm(len(self))[:count].to(self.runtime.device)
        self.runtime.follow_first_([rows])
        return rows

    def passes(self, batch: int) -> Iterator[Tensor]:
        """Numbers of rows without end, this rank's share of `batch` at a time: all rows, then all again in another order."""
        share, rows = self.runtime.share(batch, "the batch"), torch.empty(0, dtype=torch.int64, device=self.runtime.device)
        mine = slice(self.runtime.rank * share, (self.runtime.rank + 1) * share)
        while True:
            while len(rows) < batch:
                rows = torch.cat([rows, self.draw(len(self))])
            yield rows[:batch][mine]
            rows = rows[batch:]

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        # Copies: a part of a tensor would be saved with all of it.
        return {"total": self.total, **{name: rows[: len(self)].to("cpu", copy=True) for name, rows in self.rows.items()}}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.total = state["total"]
        for name, rows in self.rows.items():
            rows[: len(self)] = state[name].to(rows.device)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
