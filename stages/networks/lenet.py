"""LeNet-5 for 32-pixel images (LeCun et al. 1998) as DFAD's code has it, and its half."""

import re

from torch import Tensor, nn

FORMS = {r"lenet5(_half)?": "lenet5, lenet5_half"}


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


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """The network of 32-pixel images; raises ValueError for others."""
    if shape[1:] != (32, 32):
        raise ValueError(f"it is for images of 32 x 32 pixels, not {shape[1]} x {shape[2]}")
    return LeNet5(classes, shape[0], half=match[1] is not None)
