import hashlib
import itertools

import pytest
import torch

from stages.networks.build import build
from stages.networks.discriminator import PATCHES, ImageDiscriminator, PatchDiscriminator
from stages.networks.generator import DeepGenerator, Generator, generator_for
from stages.networks.importing import import_weights
from stages.networks.normalize import Normalized
from stages.networks.taps import heads
from stages.settings.task import Start
from stages.support.errors import UserError


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("wrn16_1", 180_916),
        ("wrn16_2", 703_284),
        ("wrn40_1", 569_780),
        ("wrn40_2", 2_255_156),
        ("resnet18", 11_220_132),
        ("resnet20", 269_722 + 90 * 65),
        ("resnet110", 1_727_962 + 90 * 65),
        ("resnet34", 21_328_292),
        ("vgg11", 9_277_284),
    ],
)
def test_classifiers_have_the_published_sizes(name, parameters):
    assert count(build(name, 100, (3, 32, 32))) == parameters


def test_lenet_has_lecuns_size_and_its_half_a_quarter_of_it():
    assert count(build("lenet5", 10, (1, 32, 32))) == 61_706
    half = build("lenet5_half", 10, (1, 32, 32))
    assert count(half) == 3 * 26 + 8 * (3 * 25 + 1) + 60 * (8 * 25 + 1) + 42 * 61 + 10 * 43
    assert half(torch.rand(2, 1, 32, 32)).shape == (2, 10)
    with pytest.raises(UserError, match="'lenet5': it is for images of 32 x 32 pixels, not 28 x 28"):
        build("lenet5", 10, (1, 28, 28))


@pytest.mark.parametrize(
    ("net", "parameters"),
    [
        (lambda: Generator(100, (3, 32, 32)), 2_026_051),
        (lambda: DeepGenerator(100, (3, 128, 128)), 290_563),
        (lambda: DeepGenerator(100, (3, 64, 64)), 212_995),
        (lambda: PatchDiscriminator(3), 531_328),
        (lambda: PatchDiscriminator(3, 22, 64, first_bias=False), 659_456),
        (lambda: PatchDiscriminator(3, 46, 64, first_bias=False), 2_757_888),
    ],
)
def test_game_networks_have_the_released_sizes(net, parameters):
    assert count(net()) == parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("deeplab_mobilenetv2", 5_111_307), ("deeplab_resnet50", 39_636_299), ("unet_16", 488_171), ("unet_8", 122_555)],
)
def test_networks_for_segmentation_have_the_sizes_of_the_specification(name, parameters):
    """DeepLab's is the specification's arithmetic; U-Net's stands here."""
    net = build(name, 11, (3, 64, 64))
    assert count(net) == parameters
    if name.startswith("unet"):
        width = int(name[5:])

        def twice(a, b):
            return 9 * b * (a + b) + 4 * b

        widths = [width * 2**k for k in range(4)]
        down = sum(twice(a, b) for a, b in zip([3, *widths], widths, strict=False))
        up = sum(twice(a + b, a) for a, b in itertools.pairwise(widths))
        assert parameters == down + up + 11 * (width + 1)


@pytest.mark.parametrize(
    "name", ["unet_4", "deeplab_mobilenetv2", "torchvision.lraspp_mobilenet_v3_large", "torchvision.deeplabv3_mobilenet_v3_large"]
)
def test_networks_for_segmentation_map_images_of_any_size_to_logits_of_every_pixel(name):
    net = build(name, 5, (3, 48, 64)).eval()
    for height, width in ((48, 64), (64, 32)):
        assert net(torch.rand(1, 3, height, width)).shape == (1, 5, height, width)
    (head,) = heads(net)
    assert head.out_channels == 5


def test_deeplabs_maps_are_an_eighth_of_the_image():
    assert build("deeplab_mobilenetv2", 5, (3, 64, 64)).eval().backbone(torch.rand(1, 3, 64, 96)).shape == (1, 320, 8, 12)
    with pytest.raises(UserError, match="'unet_4': it halves three times"):
        build("unet_4", 5, (3, 60, 64))
    with pytest.raises(UserError, match=r"'torchvision\.fcn': torchvision\.models has no such network"):
        build("torchvision.fcn", 5, (3, 64, 64))


def test_a_backbone_starts_from_a_file_of_another_network(tmp_path):
    """A classifier's weights, but for its head, go into the backbone of a network for segmentation."""
    from torchvision import models

    torch.manual_seed(0)
    given, net = models.resnet50(), build("torchvision.fcn_resnet50", 5, (3, 32, 32))
    torch.save(given.state_dict(), path := tmp_path / "resnet50.pth")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    import_weights(net, Start(path=str(path), sha256=sha256, without=["fc"], into="backbone"), "key")
    assert all(torch.equal(value, given.state_dict()[key]) for key, value in net.backbone.state_dict().items())
    with pytest.raises(UserError, match=r"key\.into: the network has no module 'backbon'; did you mean 'backbone'"):
        import_weights(net, Start(path=str(path), sha256=sha256, without=["fc"], into="backbon"), "key")


@pytest.mark.parametrize("name", ["convnet_4", "wrn10_1", "resnet18", "resnet20", "vgg11", "torchvision.mobilenet_v3_small"])
@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 64)])
def test_classifiers_map_images_to_logits(name, channels, size):
    net = build(name, 7, (channels, size, size)).eval()
    assert net(torch.rand(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize(("name", "hint"), [("resnet1", "resnet18"), ("torchvision.resnet19", "resnet18"), ("wrn17_1", "6n")])
def test_an_unknown_network_is_named(name, hint):
    with pytest.raises(UserError, match=hint):
        build(name, 10, (3, 32, 32))


@pytest.mark.parametrize("sides", [(16, 16), (20, 20), (32, 32), (64, 64), (96, 96), (12, 20), (32, 24), (64, 96), (96, 100)])
@pytest.mark.parametrize("channels", [1, 3])
def test_generators_fill_0_to_1_at_any_size(sides, channels):
    images = generator_for(10, (channels, *sides), 4)(torch.randn(3, 10))
    assert images.shape == (3, channels, *sides)
    assert images.min() >= 0
    assert images.max() <= 1


def test_a_size_that_cannot_be_doubled_to_is_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        Generator(10, (1, 32, 30))


@pytest.mark.parametrize("patch", PATCHES)
def test_a_logit_sees_exactly_its_patch(patch):
    """Change one pixel at a time of a line through the image: the middle logit changes for `patch` of them."""
    torch.manual_seed(0)
    size = 128
    net = PatchDiscriminator(1, patch, 2).eval().double()
    base = torch.rand(1, 1, size, size, dtype=torch.double)
    lines = base.repeat(size, 1, 1, 1)
    middle = net(base).shape[-1] // 2
    for column in range(size):
        lines[column, :, :, column] += 1.0
    changed = (net(lines)[:, 0, middle, middle] - net(base)[0, 0, middle, middle]).abs() > 1e-12
    assert changed.sum() == patch


@pytest.mark.parametrize(("patch", "side"), [(1, 32), (2, 31), (4, 16), (10, 8), (18, 8), (22, 4)])
def test_logit_maps_at_32_pixels(patch, side):
    assert PatchDiscriminator(3, patch, 4)(torch.rand(2, 3, 32, 32)).shape == (2, 1, side, side)
    assert PatchDiscriminator(3, patch, 4, stride=2)(torch.rand(2, 3, 32, 32)).shape == (2, 1, -(-side // 2), -(-side // 2))


@pytest.mark.parametrize("sides", [(8, 8), (16, 16), (20, 20), (32, 32), (64, 64), (12, 20), (16, 24)])
def test_the_image_discriminator_gives_one_logit(sides):
    assert ImageDiscriminator((3, *sides), 4)(torch.rand(2, 3, *sides)).shape == (2, 1, 1, 1)


def test_a_network_normalises_inside_itself():
    net = Normalized(torch.nn.Identity(), [0.5, 0.2, 0.1], [0.5, 0.1, 0.2])
    seen = net(torch.full((1, 3, 2, 2), 0.5))
    torch.testing.assert_close(seen[0, :, 0, 0], torch.tensor([0.0, 3.0, 2.0]))
