"""The teacher: one or several frozen networks that answer as one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stages.engine.quick import Net, quick
from stages.losses.precision import full

# Numbers of all inputs of a forward without gradients, in fp32 and bf16. More is slower on CPUs (caches), and only costs memory
# on GPUs.
_NUMBERS = {("cpu", False): 2**14, ("cpu", True): 2**15, ("cuda", False): 2**22, ("cuda", True): 2**22}
ASKED, FEATURES, GRADIENT, BATCH_NORM = "asked", "features", "gradient", "batch_norm"
MAPS, STAGES, EMBEDDINGS = "maps", "stages", "embeddings"


class Teacher(nn.Module):
    """Frozen networks of one task: eval mode for good, no parameter wants a gradient. Gradients still flow to the inputs.

    Every part answers for its own classes, and the logits of all parts stand side by side. `forwards` and `backwards` count the
    examples that went through it either way; `name` is its network's, for messages.
    """

    def __init__(self, *parts: nn.Module, name: str = ""):
        super().__init__()
        self.parts = nn.ModuleList(part.requires_grad_(False).eval() for part in parts)
        self.eval()
        self.name = name or " + ".join(type(part).__name__ for part in parts)
        self.forwards = self.backwards = 0
        self.chunked_for = ""  # a device, instead of that of the inputs
        self.compiled = False  # whether `logits` compiles its copies of the networks
        self._quick: dict[bool, list[Net]] = {}  # by whether it is bf16; no sub-modules, for nobody should look into them

    @property
    def can(self) -> frozenset[str]:
        """What a method may ask of it beside logits, and gets of every part.

        asked: of any input; features: what enters its last layer; gradient: with respect to its inputs; batch_norm: running
        statistics of its training data; maps: those of named stages; stages: maps of one part (several have no common order);
        embeddings: inputs given as vectors (of one part, for each has a table of its own). A network says of itself that it
        cannot be `asked`, is not `differentiable`, or `takes_embeddings`, and its `taps`.
        """
        single = len(self.parts) == 1
        able = {
            ASKED: [all(getattr(m, "asked", True) for m in part.modules()) for part in self.parts],
            FEATURES: [any(isinstance(m, nn.Linear | nn.Conv2d) for m in part.modules()) for part in self.parts],
            GRADIENT: [all(getattr(m, "differentiable", True) for m in part.modules()) for part in self.parts],
            BATCH_NORM: [any(map(_remembers, part.modules())) for part in self.parts],
            MAPS: (named := [any(getattr(m, "taps", ()) for m in part.modules()) for part in self.parts]),
            STAGES: [single and each for each in named],
            EMBEDDINGS: [single and any(getattr(m, "takes_embeddings", False) for m in part.modules()) for part in self.parts],
        }
        return frozenset(word for word, parts in able.items() if all(parts))

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in eval mode: the running statistics are in-domain knowledge that no batch may overwrite."""
        return super().train(False)

    def forward(self, inputs: Tensor, eager: bool = False) -> Tensor:
        """Logits (B, K, ...); `eager` goes around a compiled network, which passes over hooks."""
        self.forwards += len(inputs)
        self.backwards += len(inputs) * (torch.is_grad_enabled() and inputs.requires_grad)
        answers = [part.forward(inputs) if eager else part(inputs) for part in self.parts]
        return answers[0] if len(answers) == 1 else torch.cat(answers, 1)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Within this block nothing is counted: what is asked is no part of a run's cost."""
        before = self.forwards, self.backwards
        yield
        self.forwards, self.backwards = before

    @contextmanager
    def in_chunks_of(self, device: str) -> Iterator[None]:
        """Within this block `logits` cuts inputs as on a device of that type: numbers are the same, calls are not."""
        self.chunked_for = device
        yield
        self.chunked_for = ""

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """Logits (B, K, ...) without a graph, a chunk at a time; under bf16 autocast by quicker copies of the networks."""
        bf16 = torch.is_autocast_enabled(inputs.device.type)
        chunks = inputs.split(max(1, _NUMBERS[self.chunked_for or inputs.device.type, bf16] // _numbers(inputs.shape)))
        if not (bf16 or self.compiled):
            return full(torch.cat([self(chunk) for chunk in chunks]))
        if not (known := self._quick.get(bf16)):
            known = self._quick[bf16] = [quick(part, inputs[:2], bf16, self.compiled) for part in self.parts]
        self.forwards += len(inputs)
        return full(torch.cat([torch.cat([net(chunk) for net in known], 1) for chunk in chunks]))


def _numbers(shape: Sequence[int]) -> int:
    """Pixels of an image (B, C, H, W), tokens of a sequence (B, L)."""
    return int(torch.Size(shape[2:] or shape[1:]).numel())


def _remembers(module: Any) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
