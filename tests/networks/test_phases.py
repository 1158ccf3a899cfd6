import pytest
import torch
from torch import nn

from stages.networks.generator import Generator
from stages.networks.phases import DoublingConv2d, in_phases


def _gradients(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The image of `x`, and the gradients of the input and of all weights where each pixel pulls with its own weight."""
    x = x.clone().requires_grad_()
    image = net(x)
    pull = torch.linspace(-1, 1, image.numel(), dtype=image.dtype).view(image.shape)
    return image.detach(), list(torch.autograd.grad((image * pull).sum(), [x, *net.parameters()]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 5)])
def test_one_step_is_doubling_and_then_convolving(size: tuple[int, int], bias: bool):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, 1, 1, bias=bias).double()
    x = torch.randn(4, 3, *size, dtype=torch.double)
    image, gradients = _gradients(DoublingConv2d(conv), x)
    wanted, of_wanted = _gradients(nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv), x)
    torch.testing.assert_close(image, wanted)
    torch.testing.assert_close(gradients, of_wanted)


def test_a_generator_in_phases_makes_the_same_images_with_the_same_weights():
    torch.manual_seed(0)
    net = Generator(7, (3, 16, 8), (6, 5, 4), bias=True, standardised=True).double()
    phased, z = in_phases(net.layers), torch.randn(9, 7, dtype=torch.double)
    assert not any(isinstance(layer, nn.Upsample) for layer in phased)
    assert {id(weight) for weight in phased.parameters()} == {id(weight) for weight in net.parameters()}
    torch.testing.assert_close(phased(z), net(z))
