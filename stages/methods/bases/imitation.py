"""Plain knowledge distillation: the student imitates the teacher on given inputs."""

from torch import Tensor

from stages.methods.bases.method import Method, Seen, Tempered
from stages.support.sections import Rate


class Imitation(Method):
    """KL(T || S) on whatever there is (Hinton et al. 2015, arXiv:1503.02531); subclasses say on what."""

    class Params(Tempered):
        """MosaicKD's released baseline has 5."""

        tau: Rate = 5.0

    params: Params

    def next(self) -> Seen:
        """The inputs of the next student step, and the teacher's logits where they are known."""
        raise NotImplementedError

    def step(self) -> dict[str, Tensor]:
        """Take one step of the student."""
        with self.cost.timed("distillation"):
            return {"loss": self.imitate([[self.next()]])}
