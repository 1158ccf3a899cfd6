"""Does the import report see a teacher that is taken wrongly, and leave a right one alone? Twenty of each.

Usage: python -m tests.benchmark_import FOLDER, which has the archives of the catalogue (cifar10-jpeg.tar.xz, ...).
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from stages.datasets.examples import Examples, channel_statistics
from stages.datasets.images import Augment, ImageForm
from stages.datasets.sources.digits import Source as Digits
from stages.datasets.sources.tar import Source as Tar
from stages.jobs.import_report import STATISTICS, report
from stages.jobs.imported import as_logits
from stages.kinds.classification import Kind
from stages.methods.bases.method import Schedule
from stages.networks.adapter import Adapter, Interface
from stages.networks.weights import Blueprint
from stages.settings.task import Teacher
from stages.support.seeds import shuffled
from tests.small import taught

IMAGENET, HALF = list(STATISTICS.values())[:2]
TRAINED, STEPS = 8000, 400


def sets(folder: Path) -> dict[str, tuple[Examples, Examples]]:
    """Labelled images for training and for validation, by name."""
    cifar = {"source": "tar", "path": str(folder / "cifar10-jpeg.tar.xz")}
    animals = str(folder / "tiny-imagenet-32-splits/id_animals_10.txt")
    tiny = {"source": "tar", "path": str(folder / "tiny-imagenet-32.tar.xz"), "classes": animals}
    colour = ImageForm(size=32, channels=3)
    found = {
        "digits": cut(Digits(source="digits").read(ImageForm(size=16, channels=1)), 500),
        "cifar": (Tar(**cifar, train="train").read(colour), Tar(**cifar, train="test").read(colour)),
        "animals": (Tar(**tiny, train="train").read(colour), Tar(**tiny, train="val").read(colour)),
        "photos": cut(
            Tar(source="tar", path=str(folder / "pacs-64.tar.xz"), train="photo").read(ImageForm(size=64, channels=3)), 500
        ),
    }
    return {name: (some(train, TRAINED), some(val, 500)) for name, (train, val) in found.items()}


def cut(images: Examples, val: int) -> tuple[Examples, Examples]:
    rows = shuffled(len(images))
    return images.subset(rows[val:]), images.subset(rows[:val])


def some(images: Examples, count: int) -> Examples:
    return images.subset(shuffled(len(images))[:count])


def judged(net, interface: Interface, val: Examples, classes=None) -> str:
    """What is said of a teacher that is taken by an interface; nothing where all is well."""
    val = val if classes is None else replace(val, classes=classes)
    blueprint = Blueprint("net", val.classes, val.shape, interface.mean, interface.std, interface=interface)
    kind = Kind(ImageForm(size=list(val.shape[1:]), channels=val.shape[0]), val.classes)
    made = Adapter(net, interface).eval()
    logits = kind.answers(made, val)
    taken = Teacher(network="net", weights={"path": "net.pt"})
    blueprint, made, said = as_logits(taken, blueprint, made, logits)
    return " ".join([*said, *report(kind, blueprint, made, val, kind.answers(made, val))[1]])


class Softmax(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).softmax(1)


def main(folder: str) -> None:
    data = sets(Path(folder))
    made, wrong = [], []
    for name, network, statistics in (
        ("digits", "convnet_16", None),
        ("digits", "wrn10_1", HALF),
        ("cifar", "convnet_32", IMAGENET),
        ("cifar", "convnet_32", HALF),
        ("cifar", "wrn10_1", None),
        ("cifar", "resnet20", IMAGENET),
        ("animals", "convnet_32", IMAGENET),
        ("animals", "wrn10_1", None),
        ("photos", "convnet_32", IMAGENET),
        ("photos", "wrn10_1", HALF),
    ):
        train, val = data[name]
        channels = train.shape[0]
        mean, std = statistics or [one.tolist() for one in channel_statistics(train)]
        mean, std = ((values * channels)[:channels] for values in (mean, std))
        schedule = Schedule(STEPS, 64, 64, 0.1, 5e-4, Augment(crop=2, flip=name != "digits"))
        net = taught(network, train, schedule, mean, std).parts[0].net
        right = Interface(mean=mean, std=std)
        few = some(val, 100)
        for images in (val, few):
            made.append((f"{name} {network}, {len(images)} images", judged(net, right, images)))
        relabel = torch.tensor([1, 0, *range(2, len(val.classes))])
        flipped = val.having(label=len(val.classes) - 1 - val.label)
        part = val.having(label=relabel[val.label])
        wrong += [
            (f"{name} {network}: reversed", judged(net, right, flipped)),
            (f"{name} {network}: two swapped", judged(net, right, part)),
        ]
        other = HALF if statistics is IMAGENET else IMAGENET
        taken = Interface(mean=(other[0] * channels)[:channels], std=(other[1] * channels)[:channels])
        if channels == 3 and network != "wrn10_1":
            wrong.append((f"{name} {network}: mean and std", judged(net, taken, val)))
        if channels == 3:
            wrong.append((f"{name} {network}: BGR", judged(net, replace(right, order="bgr"), val)))
        if name in ("photos", "digits"):
            small = val.having(
                input=F.interpolate(val.input.float(), scale_factor=0.5, antialias=True, mode="bilinear").round().byte()
            )
            wrong.append((f"{name} {network}: half the size", judged(net, right, small)))
        if network == "convnet_32":
            wrong.append((f"{name} {network}: softmax", judged(Softmax(net), right, val)))
        print(f"{name} {network}: done", flush=True)
    for title, cases in (("right", made), ("wrong", wrong)):
        print(f"\n{title}: {sum(bool(said) for _, said in cases)} of {len(cases)} said to be wrong")
        for what, said in cases:
            print(f"  {what}: {said or '-'}")


if __name__ == "__main__":
    main(sys.argv[1])
