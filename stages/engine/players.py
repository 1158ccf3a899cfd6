"""Players: networks that a method trains, and which change in their own turn only."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from stages.engine.runtime import Runtime
from stages.settings.rates import Falling, factor


class Player:
    """A network that a method trains, its optimiser, and how its learning rate is `falling`.

    It owns what its optimiser holds; the parts of a network that it does not own stay as they are for good. A gradient longer
    than `clip` is shortened to it.

    Outside its turn a player is frozen: parameters want no gradient (none is computed in vain) and batch normalisation uses
    batch statistics without moving the running ones. `span` is the part of the run, 0 to 1, over which its rate falls.
    `updates` counts its steps, `norms` are the batch normalisations that it owns.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        runtime: Runtime,
        falling: Falling = "cosine",
        span: tuple[float, float] = (0.0, 1.0),
        clip: float | None = None,
    ):
        self.net = net
        self.optimizer = optimizer
        self.runtime = runtime
        self.falling, self.span, self.clip = falling, span, clip
        self.updates = 0
        self.base_lr: float = optimizer.param_groups[0]["lr"]
        self.parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        net.requires_grad_(False)
        net.train()
        foreign = [module for module in net.modules() if self._is_foreign(module)]
        for module in foreign:
            module.eval()
        self.norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module not in foreign]
        self._dropouts = [module for module in net.modules() if isinstance(module, nn.Dropout | nn.Dropout2d)]
        self._open(False)

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within this block the player's forwards are recorded for its parameters and its statistics move."""
        self._open(True)
        try:
            yield
        finally:
            self._open(False)

    def update(self, loss: Tensor) -> None:
        """One optimiser step down `loss`, with gradients averaged over the ranks."""
        descend(loss, self)

    def follow(self, gradients: Sequence[Tensor]) -> None:
        """One optimiser step along given gradients, one a parameter, averaged over the ranks."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.take_step()

    def take_step(self) -> None:
        """One optimiser step along the gradients that the parameters hold, averaged over the ranks."""
        self.runtime.average_([p.grad for p in self.parameters if p.grad is not None])
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.updates += 1

    def anneal(self, progress: float) -> None:
        """Set the learning rate for a run that is `progress` (0 to 1) done."""
        begin, end = self.span
        mine = min(max((progress - begin) / max(end - begin, 1e-12), 0.0), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.base_lr * factor(self.falling, mine)

    def restart(self, optimizer: Optimizer, span: tuple[float, float]) -> None:
        """Go on with a fresh optimiser of the same parameters, whose rate falls over `span`."""
        self.optimizer, self.span = optimizer, span

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "span": self.span,
            "updates": self.updates,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.span, self.updates = state["span"], state["updates"]

    def align_ranks(self) -> None:
        """Average the buffers over the ranks, whose batches differ; parameters are the same already."""
        self.runtime.average_([buffer for buffer in self.net.buffers() if buffer.is_floating_point()])

    def _is_foreign(self, module: nn.Module) -> bool:
        """Whether a module has parameters, none of which the player owns."""
        mine = {id(parameter) for parameter in self.parameters}
        inside = [id(parameter) for parameter in module.parameters()]
        return bool(inside) and mine.isdisjoint(inside)

    def _open(self, mine: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(mine)
        for norm in self.norms:
            norm.track_running_stats = mine
        for dropout in self._dropouts:
            dropout.train(mine)


def trainable(net: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen: what an optimiser of a whole network takes."""
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


@contextmanager
def turns(players: Sequence[Player]) -> Iterator[None]:
    """The turn of several players who learn from one loss."""
    with ExitStack() as stack:
        for player in players:
            stack.enter_context(player.turn())
        yield


def descend(loss: Tensor, *players: Player) -> None:
    """One step of each of `players` down one loss, in whose turns it was computed."""
    for player in players:
        player.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for player in players:
        player.take_step()


@contextmanager
def in_eval(net: nn.Module) -> Iterator[None]:
    """Within this block `net` is in eval mode and uses its running statistics; afterwards as before."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def judged(net: nn.Module) -> Iterator[None]:
    """Within this block `net` is in eval mode, without gradients; afterwards as before."""
    with in_eval(net), torch.no_grad():
        yield
