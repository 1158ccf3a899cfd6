"""Endless shuffled batches on the device, each example seen in its own way."""

import math
import zlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from stages.datasets.examples import INPUT, Examples
from stages.engine.runtime import Runtime
from stages.support.errors import UserError
from stages.support.seeds import mix

_GPU_SHARE = 4  # inputs move to the GPU while they take at most this part of the free memory
ROWS = "rows"

Batch = dict[str, Tensor]  # the columns of B examples, and their `rows` (B,) in the set; `input` as a network sees it
View = Callable[[Batch], Batch]


class Stream:
    """Batches of `examples` for one rank, a new shuffle every epoch, the incomplete last batch left out.

    Of fewer examples than a batch, an epoch is as many shuffles as fill one. With `weights` (n,), one an example, an epoch is as
    many draws in proportion to them, with replacement. Batch number i is a pure function of (seed, name, i), so `position` is all
    the state there is. `view` says what a network sees of a batch.
    """

    def __init__(
        self,
        name: str,
        examples: Examples,
        batch: int,
        seed: int,
        runtime: Runtime,
        view: View,
        weights: Tensor | None = None,
    ):
        if not len(examples):
            raise UserError(f"{name}: there are no examples to draw from; take more (`ood`, `curate.count`)")
        if (passes := math.ceil(batch / len(examples))) > 1 and runtime.rank == 0:
            print(f"{name}: {len(examples)} examples are fewer than a batch of {batch}; it has each of them about {passes} times")
        self.passes = passes  # over the examples, in an epoch
        self.examples = _near(examples, runtime)
        self.columns = {key: column.to(runtime.device) for key, column in examples.columns.items() if key != INPUT}
        self.batch, self.share = batch, runtime.share(batch, f"the batch of {name}")
        self.seed, self.runtime = (seed, zlib.crc32(name.encode())), runtime
        self.view, self.weights = view, weights
        self.position = 0
        self._reader: Iterator[Tensor] | None = None
        self._ahead: list[Tensor] = []  # rows asked of the reader, not handed out yet
        self._epoch, self._order = -1, torch.empty(0)

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.passes * len(self.examples) // self.batch

    def next(self) -> Batch:
        """The next batch; moves `position` on by one."""
        if self._reader is None:
            self._reader = self.examples.inputs(self._rows_from(self.position))
        inputs = next(self._reader).to(self.runtime.device)
        rows = self._ahead.pop(0).to(self.runtime.device)
        self.position += 1
        columns = {key: column[rows] for key, column in self.columns.items()}
        return self.view({INPUT: inputs, ROWS: rows, **columns})

    def seek(self, position: int) -> None:
        """Go to batch number `position`."""
        self.position, self._reader, self._ahead = position, None, []

    def _rows_from(self, position: int) -> Iterator[Tensor]:
        while True:
            epoch, place = divmod(position, self.per_epoch)
            if epoch != self._epoch:
                generator = torch.Generator().manual_seed(mix(*self.seed, epoch))
                self._epoch, self._order = epoch, self._ordered(generator)
            start = place * self.batch + self.runtime.rank * self.share
            rows = self._order[start : start + self.share]
            self._ahead.append(rows)
            yield rows
            position += 1

    def _ordered(self, generator: torch.Generator) -> Tensor:
        n = len(self.examples)
        if self.weights is None:
            return torch.cat([torch.randperm(n, generator=generator) for _ in range(self.passes)])
        return torch.multinomial(self.weights, self.passes * n, replacement=True, generator=generator)


def _near(examples: Examples, runtime: Runtime) -> Examples:
    """The set with its inputs on the device where they fit."""
    if not examples.packed or runtime.device.type != "cuda":
        return examples
    free, _ = torch.cuda.mem_get_info(runtime.device)
    if examples.input.numel() * _GPU_SHARE > free:
        return examples
    return examples.having(input=examples.input.to(runtime.device))
