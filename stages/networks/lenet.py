"""LeNet-5 for 32-pixel images (LeCun et al. 1998) as DFAD's code has it, its half, and a plain network in its manner."""

import re

from torch import Tensor, nn

FORMS = {r"lenet5(_half)?": "lenet5, lenet5_half", r"lenet_(\d+)": "lenet_WIDTH"}


class LeNet5(nn.Module):
    """Convolutions of 5 x 5 with 6, 16 and 120 channels, pooled twice, then 84 and K numbers; half of each where `half`."""

    taps = ("stages.0", "stages.1", "stages.2")

    def __init__(self, classes: int, channels: int, half: bool):
        super().__init__()
        first, second, third, fourth = (width // 2 if half else width for width in (6, 16, 120, 84))
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(channels, first, 5), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(second, third, 5), nn.ReLU()),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(third, fourth), nn.ReLU(), nn.Linear(fourth, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(x))


class Plain(nn.Module):
    """Convolutions of 5 x 5 with `width` and twice as many channels, each pooled, one linear layer; no batch normalisation."""

    taps = ("stages.0", "stages.1")

    def __init__(self, width: int, classes: int, shape: tuple[int, ...]):
        super().__init__()
        channels, height, across = shape
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(channels, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(width, 2 * width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * (height // 4) * (across // 4), classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(x))


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """The network of the name; raises ValueError for images that it is not for: LeNet-5's have 32 pixels a side."""
    if match[0].startswith("lenet_"):
        if min(shape[1:]) < 4:
            raise ValueError(f"it is for images of 4 x 4 pixels and more, not {shape[1]} x {shape[2]}")
        return Plain(int(match[1]), classes, shape)
    if shape[1:] != (32, 32):
        raise ValueError(f"it is for images of 32 x 32 pixels, not {shape[1]} x {shape[2]}")
    return LeNet5(classes, shape[0], half=match[1] is not None)
