"""AS-DFD: Adversarial Self-Supervised Data-Free Distillation for text classification (Ma et al. 2020, arXiv:2010.04883).

No code is public and its method section could not be had: the parts are the paper's, equations and constants are ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stages.engine.players import descend, in_eval, turns
from stages.engine.teacher import GRADIENT
from stages.losses.precision import full
from stages.methods.bases.pseudo_texts import PseudoTexts
from stages.methods.blocks.terms import Terms, values, weighted
from stages.support.sections import Fraction, Positive, Rate, Weight


class Method(PseudoTexts):
    """Guess embeddings of which T is sure and which S cannot tell (stage 1), then S learns T's logits of them (stage 2).

    W, a linear map beside S, tells the embedding that was hidden behind [MASK] from S's last hidden state there. S and W get
    better at it; guesses are made harder by it, within what T takes for their class. Of several processes each makes guesses of
    its own.
    """

    class Params(PseudoTexts.Params):
        """Stage 1: `guesses` steps of Adam, `lr` in units of the table's mean deviation, down
        CE(T(E), y) - `alpha` min(L_W, `cap`) + `gamma` R(E); alpha is 0 in the first part `warmup` of the run. Of a text's places
        the part `moving` moves in one step; a text is left alone once T gives its class more than `sure`. Stage 2: `reuse` steps
        down tau^2 KL(T || S) + `beta` L_W.
        """

        guesses: Positive = 5
        lr: Rate = 0.5
        alpha: Weight = 1.0
        cap: Rate = 4.0
        gamma: Weight = 0.01
        warmup: Fraction = 0.1
        moving: Annotated[float, Field(gt=0, le=1)] = 1.0
        sure: Fraction = 1.0
        beta: Weight = 0.1
        reuse: Positive = 1

    params: Params

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """Embeddings are guessed through T."""
        return super().needs(params) | {GRADIENT}

    def build(self) -> None:
        """Build W, the head that tells masked words."""
        super().build()
        student: Any = self.setting.student
        head = nn.Linear(student.hidden, len(self.mean))
        self.teller = self.learner("teller", self.setting.runtime.place(head))

    @property
    def iterations(self) -> int:
        """One guess serves `reuse` steps of S."""
        return self.turns(self.params.reuse)

    def step(self) -> dict[str, Tensor]:
        """Stage 1, then stage 2."""
        adversarial = self.student.updates >= self.params.warmup * self.schedule.steps
        with self.cost.timed("synthesis"):
            inputs, lengths, told = self.guess(self.batch, self.params.alpha if adversarial else 0.0)
        self.cost.images += len(inputs)
        with self.cost.timed("distillation"):
            teacher = self.teacher.logits(inputs)
            for _ in range(self.left(self.params.reuse)):
                learned = self.learn(inputs, lengths, teacher)
        return told | learned

    def guess(self, count: int, alpha: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Stage 1: embeddings (count, L, d) without a graph, their lengths, and what T said of them before the last step."""
        p, device = self.params, self.setting.runtime.device
        aims = self.setting.kind.aims(count)
        assert aims is not None
        aims, lengths = aims.to(device), self.lengths(count)
        guess = self.noise(count).requires_grad_()
        optimizer = torch.optim.Adam([guess], p.lr * self.std.mean().item())
        for _ in range(p.guesses):
            with self.watching():
                inputs = self.framed(guess, lengths)
                answer = full(self.teacher(inputs))
                terms: Terms = {"ce": (1.0, F.cross_entropy(answer, aims))}
                if alpha:
                    terms["hidden"] = (-alpha, self.hidden(inputs, lengths).clamp(max=p.cap))
                terms["range"] = (p.gamma, self.spread(inputs, lengths).mean())
                sure = answer.detach().softmax(1).gather(1, aims[:, None])
                optimizer.zero_grad()
                weighted(terms).backward()
            before = guess.detach().clone()
            optimizer.step()
            with torch.no_grad():
                still = (torch.rand(guess.shape[:2]).to(guess.device) >= p.moving) | (sure > p.sure)
                guess.copy_(torch.where(still[:, :, None], before, guess))
        return self.framed(guess.detach(), lengths), lengths, {"confidence": sure.mean(), **values(terms)}

    def learn(self, inputs: Tensor, lengths: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Stage 2: one step of S, and of W where it has a say; each one's gradient is clipped by itself."""
        beta = self.params.beta
        players = [self.student, self.teller] if beta else [self.student]
        with turns(players):
            terms: Terms = {"kd": (1.0, self.distance(teacher, self.student(inputs)))}
            if beta:
                terms["told"] = (beta, self.hidden(inputs, lengths))
            descend(weighted(terms), *players)
        return values(terms)

    def hidden(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """L_W: the mean square by which W misses the standardised embedding at one place of each text, seen as [MASK] by S."""
        student: Any = self.student.net
        rows = torch.arange(len(inputs), device=inputs.device)
        place = 1 + (torch.rand(len(inputs)).to(inputs.device) * (lengths - 2)).long()
        target = (inputs[rows, place] - self.mean) / self.std
        behind = torch.arange(inputs.shape[1], device=inputs.device) == place[:, None]
        states = student.states(torch.where(behind[:, :, None], self.masked, inputs))
        missed = (full(self.teller(states[rows, place])) - target).square().mean(1)
        return missed.mean()

    def spread(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """R(E) of each text: how far the mean and the deviation of its places are from the table's, in its units, squared."""
        place = torch.arange(inputs.shape[1], device=inputs.device)
        inner = ((place > 0) & (place < (lengths - 1)[:, None]))[:, :, None]
        count = inner.sum(1)
        mean = (inputs * inner).sum(1) / count
        variance = ((inputs - mean[:, None]).square() * inner).sum(1) / count
        deviation = variance.clamp(min=1e-12).sqrt()
        return ((mean - self.mean) / self.std).square().mean(1) + (deviation / self.std - 1).square().mean(1)

    def samples(self, count: int) -> Tensor:
        """`count` guesses, as hard as the last ones."""
        parts = [self.guess(min(self.batch, count - done), self.params.alpha)[0] for done in range(0, count, self.batch)]
        return torch.cat(parts)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """S and W in eval mode: a dropped unit would change what is hard from step to step."""
        with in_eval(self.student.net), in_eval(self.teller.net):
            yield
