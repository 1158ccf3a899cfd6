"""Small games for tests: real networks and real streams, a few images, no disk."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from stages.curation.scores import standing_out
from stages.datasets.examples import UNKNOWN, Examples, pack
from stages.datasets.images import Augment, ImageForm
from stages.datasets.texts import TextForm, Vocabulary
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import train
from stages.engine.streams import Stream
from stages.engine.teacher import Teacher
from stages.kinds.classification import Kind
from stages.kinds.segmentation import Kind as Segmentation
from stages.kinds.text import Kind as Text
from stages.methods.bases.method import Rescheduled, Schedule, Setting
from stages.networks import weights
from stages.networks.build import build
from stages.networks.normalize import Normalized
from stages.settings.rates import Warmed
from stages.support.plugins import plugin

CPU = rt.Runtime(torch.device("cpu"))
MEAN, STD = [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]  # of CIFAR-100
CLASSES = tuple("0123456789")
OBLONG, SHADES = [16, 24], ("dark", "grey", "bright")  # of segmentation
PLAIN = frozenset({"asked", "features"})  # what nearly every teacher can
GAMES = (
    "mosaickd",
    "mosaickd_reference",
    "mosaickd_bn",
    "dfad",
    "dafl",
    "zskt",
    "dfq",
)
INVERSIONS = ("deepinversion", "cmi", "fast")
HINTS = ("fitnet", "at", "sp", "rkd", "crd")
ON_POOL = ("kd_ood_strong", "balanced", *HINTS, "sskd", "dfnd", "odsd", "cfl")
METHODS = (
    "supervised",
    "kd_in_domain",
    "kd_noise",
    "kd_ood",
    *GAMES,
    *INVERSIONS,
    *ON_POOL,
    "supervised_student_domain",
    "augkd",
    "dfq_finetuned",
    "cmi_finetuned",
    "impression",
    "tessera",
)
SMALL = {
    "mosaickd": {"generator_width": 4, "discriminator_width": 4},
    **{name: {"generator_width": 4, "latent": 8} for name in ("dfad", "dafl", "zskt")},
    "dfq": {"generator_width": 4, "latent": 8, "student_steps": 5},
    **{name: {"batch": 8, "steps": 2, "student_steps": 5, "pool": 24} for name in INVERSIONS},
}
SMALL |= {f"mosaickd_{name}": SMALL["mosaickd"] for name in ("reference", "bn")}
SMALL["impression"] = {"batch": 8, "steps": 2, "student_steps": 5, "pool": 24}
SMALL["cfl"] = {"hidden": 4}
SMALL["crd"] = {"negatives": 12}
SMALL["augkd"] = {"data_free": 4, "data_free_batch": 8, "anchor_steps": 4, "latent": 8, "generator_width": 4}
SMALL["sskd"] = {"head_steps": 4}
SMALL["odsd"] = {"schedule": Rescheduled(augment=Augment(crop=2))}
SMALL["cmi"] |= {"generator_width": 4, "latent": 8, "bank": 20, "negatives": 12}
SMALL["fast"] |= {"generator_width": 4, "latent": 8, "warmup": 2, "redraw": 3}
SMALL["tessera"] = {key: value for key, value in SMALL["fast"].items() if key not in ("warmup", "redraw")} | {"ring": 24}
SMALL |= {f"{name}_finetuned": {**SMALL[name], "data_free": 40} for name in ("dfq", "cmi")}


def method_class(name):
    return plugin("stages.methods", name, "Method", "method")


def images(n=64, channels=1, size=16, classes=10, seed=0):
    """Random images of `size` pixels a side, or (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, *form(channels, size).shape), dtype=torch.uint8, generator=generator)
    return pack(pixels, torch.arange(n) % classes, tuple(map(str, range(classes))))


def form(channels=1, size=16):
    return ImageForm(channels=channels, size=size)


def kind(channels=1, size=16):
    return Kind(form(channels, size), CLASSES)


def stream(name, examples: Examples, batch, seed=0, runtime=CPU, augment=None, weights=None):
    """A stream of images as a classifier sees them."""
    channels, *size = examples.shape
    view = partial(kind(channels, size).view, augment=augment or Augment())
    return Stream(name, examples, batch, seed, runtime, view, weights)


def network(name, channels=1, size=16, classes=10):
    return Normalized(build(name, classes, form(channels, size).shape), MEAN[:channels], STD[:channels])


def setting(channels=1, size=16, steps=20, batch=8, augment=None, runtime=CPU, student="convnet_4", teacher="convnet_8", lr=0.1):
    """A setting whose data has everything; `teacher` is a network's name or a Teacher."""
    rt.seed(7)
    guide = Teacher(runtime.place(network(teacher, channels, size)), name=teacher) if isinstance(teacher, str) else teacher
    one = kind(channels, size)
    data = {name: images(channels=channels, size=size, seed=seed) for name, seed in (("pool", 0), ("in_domain", 1))}
    data["student_domain"] = images(channels=channels, size=size, seed=2)
    given = Setting(
        one,
        guide,
        network(student, channels, size),
        Schedule(steps, batch, 2 * batch, lr, 1e-4, augment or Augment()),
        0,
        runtime,
        data,
        MEAN[:channels],
        STD[:channels],
    )
    return answered(given)


def taught(network, examples, schedule, mean, std):
    """A teacher trained on labelled `examples`."""
    rt.seed(0)
    shape, classes = examples.shape, examples.classes
    net, nobody = Normalized(build(network, len(classes), shape), mean, std), Teacher(torch.nn.Identity())
    one = Kind(form(shape[0], shape[1]), classes)
    given = Setting(one, nobody, net, schedule, 0, CPU, {"in_domain": examples}, mean, std)
    learning = method_class("supervised")
    with tempfile.TemporaryDirectory() as folder:  # for what an interrupted test would leave
        train(learning(given, learning.Params()), CPU, 0, Checkpoint(Path(folder), 1e6, 10**9), dict, "")
    return Teacher(net, name=network)


def answered(given):
    """The setting with what curate says of its pool."""
    with given.teacher.uncounted():
        logits = given.kind.answers(given.teacher, given.data["pool"], 64)
    said = given.kind.summary(logits)
    known = {"predicted": standing_out(said["shares"]), "confidence": said["confidence"]}
    return with_data(given, pool=given.data["pool"].having(logits=logits, **known))


def maps(n=32, size=OBLONG, seed=0):
    """Images whose pixels' classes are how bright they are; a corner is not labelled."""
    examples = images(n, size=size, seed=seed)
    label = (examples.input[:, 0].long() * 3) // 256
    label[:, :2, :2] = UNKNOWN
    return Examples({**examples.columns, "label": label}, SHADES)


def dense(crop=None, steps=20, augment=None, batch=8, runtime=CPU):
    """A setting of segmentation, trained on whole images or crops of `crop` pixels a side."""
    rt.seed(7)
    shape = ImageForm(size=OBLONG, channels=1, crop=crop)
    teacher, student = (Normalized(build(name, 3, shape.shape), [0.5], [0.25]) for name in ("unet_4", "unet_2"))
    data = {"pool": maps(size=[crop, crop] if crop else OBLONG).unlabelled(), "in_domain": maps(seed=1)}
    schedule = Schedule(steps, batch, 2 * batch, 0.1, 1e-4, augment or Augment(crop=2, flip=True))
    guide = Teacher(runtime.place(teacher), name="unet_4")
    return answered(Setting(Segmentation(shape, SHADES), guide, student, schedule, 0, runtime, data, [0.5], [0.25]))


def dense_method(name, **options):
    found = method_class(name)
    return found(dense(**options), found.Params(**{**SMALL.get(name, {}), "schedule": None}))


def with_data(given, **data):
    return replace(given, data={**given.data, **data})


def method(name, params=None, **options):
    found = method_class(name)
    return found(setting(**options), found.Params(**{**SMALL.get(name, {}), **(params or {})}))


def vocabulary(words=60, pad=0):
    """Made-up words behind five special tokens, of which padding is `pad`."""
    special = [i for i in range(5) if i != pad]
    names = tuple(f"word{i}" for i in range(words))
    return Vocabulary(names, pad, special[0], special[1], special[2], tuple(range(5)))


def sentences(n=48, seed=0, length=12, known=None):
    """Texts of some length each; the class is whether early words outnumber late ones."""
    known = known or vocabulary()
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randint(5, len(known.words), (n, length), generator=generator)
    ends = torch.randint(6, length + 1, (n, 1), generator=generator)
    place = torch.arange(length)
    inner[:, 0] = known.cls
    ids = torch.where(place < ends - 1, inner, torch.where(place == ends - 1, known.sep, known.pad))
    label = ((ids > 4) & (ids < len(known.words) // 2)).sum(1) * 2 > (ids > 4).sum(1)
    columns = {"input": ids, "label": label.long(), "index": torch.arange(n), "length": ends.flatten()}
    return Examples(columns, ("late", "early"), vocabulary=known)


def encoder(name, length=12, known=None, classes=2):
    """With weights that are larger than fresh ones: those answer the same to every text."""
    net = build(name, classes, {"length": length, **(known or vocabulary()).tokens, "model": None})
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter *= 10
    return net


def text(steps=20, batch=4, teacher="bert_2_16", student="bert_1_16", runtime=CPU):
    """A setting of texts: encoders of 16 numbers a word, the student begun as the teacher's first layer."""
    rt.seed(7)
    guide, net = encoder(teacher), encoder(student)
    if student == "bert_1_16":
        weights.copy_layers(net, guide, "first", "")
    data = {"pool": sentences().unlabelled(), "in_domain": sentences(seed=1)}
    schedule = Schedule(steps, batch, 2 * batch, 1e-3, 0.01, optimizer="adamw", rate=Warmed(warmup=0.1), clip=1.0)
    return answered(
        Setting(Text(TextForm(length=12), ("late", "early")), Teacher(runtime.place(guide)), net, schedule, 0, runtime, data)
    )
