"""DeepLabV3 (Chen et al. 2017, arXiv:1706.05587) as DFAD has it: teacher on a ResNet-50, student on a MobileNetV2."""

import re

import torch.nn.functional as F
from torch import Tensor, nn

FORMS = {r"deeplab_(resnet50|mobilenetv2)": "deeplab_resnet50, deeplab_mobilenetv2"}
RATES = (12, 24, 36)
DROPOUT = {"resnet50": 0.1, "mobilenetv2": 0.5}


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """The network of that backbone, weights random; raises ValueError for grey images."""
    if shape[0] != 3:
        raise ValueError("it takes images of 3 channels")
    return DeepLab(match[1], classes)


class DeepLab(nn.Module):
    """(B, 3, H, W) -> logits (B, classes, H, W): maps of an eighth of the size, atrous pyramid 12/24/36, bilinear upsampling.

    On MobileNetV2 without its last convolution of 1,280 channels: 5,111,307 parameters with 11 classes.
    """

    def __init__(self, backbone: str, classes: int):
        super().__init__()
        from torchvision import models  # imported late: torchvision doubles the start-up time of a stage
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead

        if backbone == "resnet50":
            net = models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
            self.backbone: nn.Module = nn.Sequential(*list(net.children())[:-2])
            self.taps = tuple(f"backbone.{place}" for place in (4, 5, 6, 7))
            width = 2048
        else:
            blocks = list(models.mobilenet_v2(weights=None).features)[:-1]
            for first, dilation in ((7, 2), (14, 4)):  # the blocks that would halve the maps to 1/16 and to 1/32
                _dilate(nn.Sequential(*blocks[first:]), dilation)
            self.backbone = nn.Sequential(*blocks)
            self.taps = tuple(f"backbone.{place}" for place in (3, 6, 13, 17))
            width = 320
        self.head = DeepLabHead(width, classes, RATES)
        for module in self.head.modules():
            if isinstance(module, nn.Dropout):
                module.p = DROPOUT[backbone]

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.head(self.backbone(x)), x.shape[2:], mode="bilinear", align_corners=False)


def _dilate(blocks: nn.Module, dilation: int) -> None:
    """Depthwise convolutions keep the size of their maps, and look as far as they would have after halving."""
    for module in blocks.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.stride, module.dilation, module.padding = (1, 1), (dilation, dilation), (dilation, dilation)
