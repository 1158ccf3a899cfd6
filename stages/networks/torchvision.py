"""The classifiers of torchvision.models, and its networks for segmentation."""

import re
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.resnet import TAPS
from stages.support.plugins import nearest

FORMS = {r"torchvision\.(.+)": "torchvision.NAME (NAME as in torchvision.models and torchvision.models.segmentation)"}


class Grey(nn.Module):
    """A network for colours that sees grey images (B, 1, H, W), over all its channels; its tensors keep their names."""

    wraps = True

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.expand(-1, 3, -1, -1))


class Segmenter(nn.Module):
    """A network of torchvision.models.segmentation without its auxiliary output: (B, 3, H, W) -> logits (B, classes, H, W)."""

    def __init__(self, backbone: nn.Module, classifier: nn.Module):
        super().__init__()
        self.backbone, self.classifier = backbone, classifier
        if hasattr(self.backbone, "layer4"):
            self.taps = tuple(f"backbone.{name}" for name in TAPS)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        # All but the lightest network look at the last map alone.
        logits = self.classifier(features if "low" in features else features["out"])
        return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=False)


def names() -> list[str]:
    """All that there are."""
    from torchvision import models  # imported late: torchvision doubles the start-up time of a stage

    return [*models.list_models(module=models), *models.list_models(module=models.segmentation)]


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """The network of that name, grey images repeated over its three channels; raises ValueError for a name it has not."""
    from torchvision import models

    name, dense = match[1], models.list_models(module=models.segmentation)
    if name not in (known := names()):
        raise ValueError(f"torchvision.models has no such network; {nearest(name, known)}")
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    if name in dense:
        options = {"weights_backbone": None}
    net = models.get_model(name, weights=None, num_classes=classes, **options)
    if name in dense:
        net = Segmenter(net.backbone, net.classifier)
    elif hasattr(net, "layer4"):
        net.taps = TAPS
    return Grey(net) if shape[0] == 1 else net
