"""The classifiers of torchvision.models."""

import re

from torch import Tensor, nn

from stages.networks.resnet import TAPS
from stages.support.parts import nearest

FORMS = {r"torchvision\.(.+)": "torchvision.NAME (NAME as in torchvision.models)"}


class _RepeatChannel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """The classifier of that name, grey images repeated over its three channels; raises ValueError for a name it has not."""
    from torchvision import models  # imported late: torchvision doubles the start-up time of a stage

    name, known = match[1], models.list_models(module=models)
    if name not in known:
        raise ValueError(f"torchvision.models has no such classifier; {nearest(name, known)}")
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    net = models.get_model(name, weights=None, num_classes=classes, **options)
    if hasattr(net, "layer4"):
        net.taps = TAPS
    return nn.Sequential(_RepeatChannel(), net) if shape[0] == 1 else net
