"""Teachers of other makes: each answers, through the project, as its own library does."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stages.engine.teacher import Teacher as Teaching
from stages.jobs.imported import as_logits, imported, same_answer
from stages.kinds.classification import Kind
from stages.kinds.segmentation import Kind as Segmentation
from stages.networks import program as programs
from stages.networks import weights
from stages.networks.answers import Answers
from stages.settings.task import Teacher
from stages.support.errors import UserError
from stages.support.sections import check
from tests import small

WHERE = "task.mine.teacher"
CLASSES = ("ant", "bee", "cat", "dog", "eel")
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


class Net(nn.Module):
    """A small network with batch normalisation, which gives what is asked of it."""

    def __init__(self, gives=lambda logits: logits, classes=5):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head, self.gives = nn.Linear(32, classes), gives

    def forward(self, x):
        return self.gives(self.head(self.body(x)))


def net(**options):
    torch.manual_seed(0)
    made = Net(**options).eval()
    made.body[1].running_mean.normal_()
    return made


def dictionary():
    """A user's own network, which answers with a dictionary."""
    return net(gives=lambda logits: {"features": logits.flatten(), "scores": logits, "more": logits * 2})


def images(n=6, size=16):
    return small.images(n, 3, size, classes=len(CLASSES))


def opened(section, size=16, classes=CLASSES, of=Kind):
    """The teacher that a section describes, after a way through its folder; and what was said of it."""
    examples = replace(images(size=size), classes=classes)
    kind = of(small.form(3, size), classes)
    taught = check(Teacher, section)
    blueprint, made, notes = imported(taught, kind, examples, WHERE)
    with torch.no_grad():
        blueprint, made, more = as_logits(taught, blueprint, made.eval(), made.eval()(seen()))
    return blueprint, made, " | ".join(notes + more), kind


def stored(blueprint, made, kind, folder):
    weights.save(folder, blueprint, made, kind.blank(1), {})
    found, again = weights.load(folder)
    assert found == blueprint
    return again.eval()


def seen(size=16):
    return torch.rand(6, 3, size, size, generator=torch.Generator().manual_seed(1))


def normal(x, mean=MEAN, std=STD):
    return (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


@pytest.mark.parametrize("batch", [2, 4, None])
def test_an_exported_program_answers_and_has_gradients_at_any_batch(tmp_path, batch):
    theirs, path = net(), tmp_path / "teacher.pt2"
    example = torch.zeros(batch or 2, 3, 16, 16)
    dynamic = ({0: torch.export.Dim("n", min=1)},) if batch is None else None
    torch.export.save(torch.export.export(theirs, (example,), dynamic_shapes=dynamic), path)
    blueprint, made, said, kind = opened({"exported": {"path": str(path), "mean": MEAN, "std": STD}})
    assert ("batches of just" in said) == (batch is not None)
    for one in (made, stored(blueprint, made, kind, tmp_path / "kept")):
        x, y = seen().requires_grad_(), seen().requires_grad_()
        torch.testing.assert_close(one(x), theirs(normal(y)))
        one(x).square().sum().backward()
        theirs(normal(y)).square().sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(made(seen()).float(), theirs(normal(seen())).float(), rtol=0.05, atol=0.05)
    card = json.loads((tmp_path / "kept/card.json").read_text())
    assert card["params"] == sum(p.numel() for p in theirs.parameters())


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("frozen", [False, True])
def test_a_torchscript_program_answers_and_has_gradients(tmp_path, frozen):
    theirs, path = net(), tmp_path / "teacher.pt"
    program = torch.jit.trace(theirs, torch.zeros(2, 3, 24, 24))
    (torch.jit.freeze(program) if frozen else program.train()).save(path)
    blueprint, made, _, kind = opened({"torchscript": {"path": str(path), "mean": MEAN, "std": STD}})
    for one in (made, stored(blueprint, made, kind, tmp_path / "kept")):
        for _ in range(3):  # the first calls are those that it is made faster by
            x, y = seen().requires_grad_(), seen().requires_grad_()
            torch.testing.assert_close(one(x), theirs(normal(y)))
            one(x).square().sum().backward()
            theirs(normal(y)).square().sum().backward()
            torch.testing.assert_close(x.grad, y.grad)
        assert not any(weight.requires_grad for weight in one.net.opened[0].parameters())


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_torchscript_program_of_two_inputs_is_refused(tmp_path):
    torch.jit.trace(nn.Bilinear(3, 3, 5), (torch.zeros(2, 3), torch.zeros(2, 3))).save(tmp_path / "two.pt")
    with pytest.raises(UserError, match="takes input1, input2, not images alone"):
        opened({"torchscript": str(tmp_path / "two.pt")})


def test_a_cpu_has_a_few_large_images_at_a_time_and_never_one_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "PLACES", 2 * 16 * 16)
    theirs, path = net(), tmp_path / "teacher.pt2"
    dynamic = ({0: torch.export.Dim("n", min=2)},)
    torch.export.save(torch.export.export(theirs, (torch.zeros(3, 3, 16, 16),), dynamic_shapes=dynamic), path)
    _, made, _, _ = opened({"exported": {"path": str(path), "mean": MEAN, "std": STD}})
    assert [len(part) for part in made.net.chunks(seen()[:5])] == [3, 2]
    torch.testing.assert_close(made(seen()[:5]), theirs(normal(seen()[:5])))


def test_images_are_resized_to_the_size_of_an_exported_program(tmp_path):
    theirs, path = net(), tmp_path / "teacher.pt2"
    torch.export.save(torch.export.export(theirs, (torch.zeros(1, 3, 32, 32),)), path)
    _, made, said, _ = opened({"exported": str(path)})
    assert "resized to 32 x 32" in said
    assert "no mean and std are given" in said
    large = nn.functional.interpolate(seen(), (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(made(seen()), theirs(large))
    with pytest.raises(UserError, match="exported for images of 32 x 32"):
        opened({"exported": str(path), "resize": 24})


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_network_answers_without_gradients(tmp_path):
    pytest.importorskip("onnxruntime")
    theirs, path = net(), tmp_path / "teacher.onnx"
    program = torch.onnx.export(theirs, (torch.zeros(4, 3, 16, 16),), dynamo=True, verbose=False)
    program.save(str(path))
    blueprint, made, said, kind = opened({"onnx": {"path": str(path), "mean": MEAN, "std": STD}})
    assert "batches of just 4" in said
    again = stored(blueprint, made, kind, tmp_path / "kept")
    torch.testing.assert_close(again(seen()), theirs(normal(seen())), rtol=1e-4, atol=1e-5)
    assert not again(seen().requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"order": "bgr"}, lambda x, theirs: theirs(normal(x.flip(1)))),
        ({"range": 255}, lambda x, theirs: theirs(normal(255 * x))),
        (
            {"resize": 24},
            lambda x, theirs: theirs(nn.functional.interpolate(normal(x), (24, 24), mode="bilinear", antialias=True)),
        ),
        (
            {"network": "tests.jobs.test_imported:softmax", "gives": "probabilities"},
            lambda x, theirs: theirs(normal(x)).log_softmax(1),
        ),
    ],
)
def test_what_a_teacher_takes_and_gives_is_said(tmp_path, section, told):
    torch.save(net().state_dict(), path := tmp_path / "w.pt")
    given = {"path": str(path), "mean": MEAN, "std": STD}
    section = {"network": "tests.jobs.test_imported:net", "trust_code": True, "weights": given, **section}
    _, made, _, _ = opened(section)
    torch.testing.assert_close(made(seen()), told(seen(), net()))


def test_a_network_of_ones_own_code_runs_where_it_is_trusted(tmp_path):
    torch.save(net().state_dict(), path := tmp_path / "w.pt")
    section = {"network": "tests.jobs.test_imported:dictionary", "weights": {"path": str(path), "mean": MEAN, "std": STD}}
    with pytest.raises(UserError, match="your own code, which runs with all your rights; say `trust_code: true`"):
        opened(section)
    with pytest.raises(
        UserError, match="gives several; its outputs are features, scores, more: say which are logits by `output`"
    ):
        opened({**section, "trust_code": True})
    _, made, _, _ = opened({**section, "trust_code": True, "output": "scores"})
    torch.testing.assert_close(made(seen()), net()(normal(seen())))
    with pytest.raises(UserError, match="there is no module nowhere"):
        opened({**section, "network": "nowhere.nets:net", "trust_code": True})


def softmax():
    return net(gives=lambda logits: logits.softmax(1))


def test_probabilities_are_seen(tmp_path):
    torch.save(net().state_dict(), path := tmp_path / "w.pt")
    section = {"network": "tests.jobs.test_imported:softmax", "trust_code": True}
    blueprint, made, said, kind = opened({**section, "weights": {"path": str(path), "mean": MEAN, "std": STD}})
    assert "its answers are probabilities" in said
    again = stored(blueprint, made, kind, tmp_path / "kept")
    torch.testing.assert_close(again(seen()).softmax(1), net()(normal(seen())).softmax(1))


def test_some_logits_are_kept_in_the_order_that_is_asked_for(tmp_path):
    from torchvision import models

    torch.manual_seed(0)
    theirs = models.mobilenet_v3_small(num_classes=40).eval()
    torch.save(theirs.state_dict(), path := tmp_path / "w.pt")
    given = {"path": str(path), "mean": MEAN, "std": STD}
    section = {"network": "torchvision.mobilenet_v3_small", "weights": given, "classes": [7, 0, 39, 12, 3]}
    blueprint, made, _, kind = opened(section, size=32)
    again = stored(blueprint, made, kind, tmp_path / "kept")
    x = seen(32)
    torch.testing.assert_close(again(x), theirs(normal(x))[:, [7, 0, 39, 12, 3]])
    with pytest.raises(UserError, match="names 2 logits, and the task has 5 classes"):
        opened({**section, "classes": [1, 2]}, size=32)


def test_a_timm_network_brings_its_statistics(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet", num_classes=5).eval()
    save_file(theirs.state_dict(), path := tmp_path / "model.safetensors")
    _, made, said, _ = opened({"network": "timm.test_resnet", "weights": {"path": str(path)}}, size=64)
    config = theirs.default_cfg
    assert "timm's test_resnet says mean [" in said
    x = seen(64)
    torch.testing.assert_close(made(x), theirs(normal(x, config["mean"], config["std"])))
    assert made.net is not theirs
    facts = {"num_classes": 5, "pretrained_cfg": {"mean": MEAN, "std": STD, "input_size": [3, 96, 96]}}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    _, made, said, _ = opened({"network": "timm.test_resnet", "weights": {"path": str(path)}}, size=64)
    assert "config.json says mean [0.4, 0.5, 0.6]" in said
    large = nn.functional.interpolate(x, (96, 96), mode="bilinear", antialias=True)
    torch.testing.assert_close(made(x), theirs(normal(large)))
    with pytest.raises(UserError, match="timm has no such network; did you mean 'test_resnet'"):
        opened({"network": "timm.test_resnets", "weights": {"path": str(path)}}, size=64)


def test_a_network_of_hugging_face_brings_names_size_and_statistics(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    order = ["dog", "ant", "eel", "bee", "cat"]
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label=dict(enumerate(order)), label2id={name: i for i, name in enumerate(order)},
    )  # fmt: skip
    theirs = transformers.ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    shown = {"image_mean": MEAN, "image_std": STD, "size": {"height": 32, "width": 32}, "do_normalize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(shown))
    section = {"network": "huggingface", "weights": {"path": str(tmp_path / "model.safetensors")}}
    blueprint, made, said, kind = opened(section)
    assert "32 x 32 pixels, 5 classes (dog, ant, eel, ...)" in said
    assert "its logits are taken by the names of the classes: 1, 3, 4, 0, 2" in said
    large = nn.functional.interpolate(seen(), (32, 32), mode="bilinear", antialias=True)
    expected = theirs(normal(large)).logits[:, [order.index(name) for name in CLASSES]]
    torch.testing.assert_close(stored(blueprint, made, kind, tmp_path / "kept")(seen()), expected)


def test_a_segmenter_of_hugging_face_answers_for_every_pixel(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=5,
    )  # fmt: skip
    theirs = transformers.SegformerForSemanticSegmentation(config).eval()
    theirs.save_pretrained(tmp_path)
    section = {"network": "huggingface", "weights": {"path": str(tmp_path / "model.safetensors"), "mean": MEAN, "std": STD}}
    examples = replace(images(size=32), classes=CLASSES)
    kind = Segmentation(small.form(3, 32), CLASSES)
    blueprint, made, _ = imported(check(Teacher, section), kind, examples, WHERE)
    x = seen(32)
    expected = nn.functional.interpolate(theirs(normal(x)).logits, (32, 32), mode="bilinear", align_corners=False)
    if blueprint.interface is None:
        pytest.fail("a network that answers at a quarter of the size needs an interface")
    torch.testing.assert_close(made.eval()(x), expected)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"exported": "a.pt2", "network": "wrn16_1"}, "`exported` is a whole teacher; leave out `network`"),
        ({"exported": "a.pt2", "onnx": "a.onnx"}, "`exported` is a whole teacher"),
        ({"network": "wrn16_1"}, "give either `train`"),
        ({"exported": "nowhere.pt2"}, r"weights nowhere\.pt2 are missing"),
    ],
)
def test_sections_that_say_too_much_or_too_little_are_refused(section, said):
    with pytest.raises(UserError, match=said):
        opened(section)


def program(path, make, example=(2, 3, 16, 16), dynamic=False, kind=torch.float32):
    shapes = ({0: torch.export.Dim("n", min=1)},) if dynamic else None
    torch.export.save(torch.export.export(make, (torch.zeros(example, dtype=kind),), dynamic_shapes=shapes), path)
    return {"exported": str(path)}


class Wrapped(nn.Module):
    """A network behind something that people put there before they export."""

    def __init__(self, wrap):
        super().__init__()
        self.net, self.wrap = net(), wrap

    def forward(self, x):
        return self.wrap(self.net, x)


def test_a_program_in_the_mode_of_training_is_refused(tmp_path):
    noisy = nn.Sequential(net(), nn.Dropout(0.5)).train()
    _, made, _, _ = opened(program(tmp_path / "noisy.pt2", noisy))
    with pytest.raises(UserError, match=r"in the mode of training; call net\.eval"):
        same_answer(made, seen())
    _, made, _, _ = opened(program(tmp_path / "quiet.pt2", net()))
    same_answer(made, seen())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net, x: {"loss": x.sum(), "logits": net(x)},
        lambda net, x: {"logits": net(x), "hidden": None},
        lambda net, x: net(x.half().float()),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_programs_may_answer_with_other_things_beside(tmp_path, wrap, dynamic):
    _, made, _, _ = opened(program(tmp_path / "w.pt2", Wrapped(wrap).eval(), dynamic=dynamic))
    torch.testing.assert_close(made(seen()), net()(seen()), rtol=0.05, atol=0.05)


def test_a_program_of_half_precision_or_whole_numbers_or_few_images_answers(tmp_path):
    theirs = net()
    half = net().half()
    _, made, _, _ = opened(program(tmp_path / "half.pt2", half, kind=torch.float16))
    expected = theirs(seen())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(made(seen()).float(), expected, rtol=0.05, atol=0.05)
    whole = Wrapped(lambda net, x: net(x.float() / 255)).eval()
    _, made, _, _ = opened(program(tmp_path / "whole.pt2", whole, kind=torch.uint8) | {"range": 255})
    torch.testing.assert_close(made(seen()), theirs((seen() * 255).round() / 255))
    assert not Teaching(made).can & {"gradient"}
    assert Teaching(opened(program(tmp_path / "plain.pt2", theirs))[1]).can & {"gradient"}
    few = torch.export.export(theirs, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4)},))
    torch.export.save(few, tmp_path / "few.pt2")
    _, made, _, _ = opened({"exported": str(tmp_path / "few.pt2")})
    torch.testing.assert_close(made(seen()), theirs(seen()))


@pytest.mark.filterwarnings("ignore")
def test_onnx_with_its_weights_in_another_file_is_whole(tmp_path):
    pytest.importorskip("onnxruntime")
    theirs = net()
    example = (torch.zeros(2, 3, 16, 16),)
    torch.onnx.export(theirs, example, tmp_path / "t.onnx", dynamo=True, external_data=True, verbose=False)
    blueprint, made, _, kind = opened({"onnx": str(tmp_path / "t.onnx")})
    for file in tmp_path.glob("*.data"):
        file.unlink()
    again = stored(blueprint, made, kind, tmp_path / "kept")
    torch.testing.assert_close(again(seen()), theirs(seen()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": [0, 1, 2, 3, 3]}, r"teacher\.classes: it names logit 3 twice"),
        ({"classes": [0, 1, 2, 3, True]}, r"'True' is no number of a logit"),
        ({"classes": [0, 1, 2, 3, 40]}, "the teacher has 5 logits, and `classes` names number 40"),
        ({"gives": "probabilities"}, "its answers do not sum to 1"),
        ({"resize": [16, 16, 16]}, "`resize` is a number of pixels a side, or"),
        ({"exported": ["a"]}, "`exported` is a file, or {path: "),
        ({"accuracy": 0.97}, "accuracy: input should be greater than 1"),
    ],
)
def test_what_no_teacher_can_mean_is_refused(tmp_path, changes, said):
    section = program(tmp_path / "t.pt2", net())
    with pytest.raises(UserError, match=said):
        opened({**section, **changes})


def broken():
    """Code of a user that fails."""
    return {}["width"]


def test_errors_of_ones_own_code_name_file_and_line(tmp_path):
    torch.save(net().state_dict(), path := tmp_path / "w.pt")
    given = {"path": str(path), "mean": MEAN, "std": STD}
    with pytest.raises(UserError, match=r"KeyError: 'width' \(.*test_imported\.py, line \d+\)"):
        opened({"network": "tests.jobs.test_imported:broken", "trust_code": True, "weights": given})


def test_a_typing_error_in_the_make_of_a_teacher_is_named():
    with pytest.raises(UserError, match="unknown key 'exportd'; did you mean 'exported'"):
        opened({"exportd": "a.pt2"})


def answers_of(tmp_path, text, classes=CLASSES, gives=None):
    (path := tmp_path / "answers.csv").write_text(text)
    found = Answers()
    found.read(path, classes, gives)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufefffile,ant,bee,cat,dog,eel\n1.png,1,2,3,4,5\n", [1, 2, 3, 4, 5]),
        ("File, Bee,ANT,cat,dog,eel\n1.png,1,2,3,4,5\n", [2, 1, 3, 4, 5]),
        ("file,4,3,2,1,0\n1.png,1,2,3,4,5\n", [5, 4, 3, 2, 1]),
        ("file,logit_1,logit_2,logit_3,logit_4,logit_5\nx\\1.png,1,2,3,4,5\n", [1, 2, 3, 4, 5]),
    ],
)
def test_logits_stand_under_their_classes(tmp_path, text, expected):
    assert answers_of(tmp_path, text).of(["data/x/1.png"]).tolist() == [expected]


def test_probabilities_labels_and_the_best_few_become_logits(tmp_path):
    rounded = answers_of(tmp_path, "file,ant,bee,cat,dog,eel\n1.png,0.33,0.33,0.33,0,0\n").of(["1.png"]).softmax(1)
    torch.testing.assert_close(rounded[0], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0, 0]), atol=1e-4, rtol=0)
    for label in ("cat", "2"):
        said = answers_of(tmp_path, f"file,label\n1.png,{label}\n").of(["1.png"])
        assert said.softmax(1)[0, 2] > 0.99
    best = answers_of(tmp_path, "file,label1,p1,label2,p2\n1.png,cat,0.6,ant,0.1\n").of(["1.png"]).softmax(1)
    torch.testing.assert_close(best[0], torch.tensor([0.1, 0.1, 0.6, 0.1, 0.1]))
    (tmp_path / "four.csv").write_text("file,label1,p1,label2,p2\n1.png,cat,0.6,ant,0.2\n")  # as many columns as classes
    four = Answers()
    four.read(tmp_path / "four.csv", CLASSES[:4])
    torch.testing.assert_close(four.of(["1.png"]).softmax(1)[0], torch.tensor([0.2, 0.1, 0.6, 0.1]))
    np.savez(tmp_path / "answers.npz", files=np.array(["1.png"]), labels=np.array(["dog"]))
    found = Answers()
    found.read(tmp_path / "answers.npz", CLASSES)
    assert found.of(["1.png"]).argmax(1).tolist() == [3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no row of answers"),
        ("file;ant;bee\n1.png;1;2\n", "separated by semicolons, not by commas"),
        ("name,ant\n1.png,1\n", "its first column is 'name', not 'file'"),
        ("file,ant,bee,cat,dog,eel\n1.png,1,2\n", "row 2 has another number of columns"),
        ("file,ant,bee\n1.png,1,2\n", "its columns are ant, bee, ...; they are to be the classes"),
        ("file,ant,bee,cat,dog,eel\n1.png,0.1,0.1,0.1,0.1,0.1\n", "lie between 0 and 1 and do not sum to 1"),
        ("file,label\n1.png,cow\n", "'cow' is no class: ant, bee"),
        ("file,label\n1.png,cat\n1.png,dog\n", "two answers for '1.png'"),
        ("file,ant,bee,cat,dog,eel\n1.png,nan,1,1,1,1\n", "numbers that are not finite"),
    ],
)
def test_tables_of_answers_that_mean_nothing_are_refused(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        answers_of(tmp_path, text)


def test_a_name_stands_for_one_image(tmp_path):
    found = answers_of(tmp_path, "file,label\na/1.png,cat\n2.png,dog\n")
    assert found.of(["x/a/1.png", "x/a/2.png", "x/b/1.png"]).isnan().any(1).tolist() == [False, False, True]
    assert found.of(["x/a/1.png", "x/a/2.png"], parts=2).isnan().any(1).tolist() == [False, True]
    with pytest.raises(UserError, match=r"the answer to '2\.png' may be to x/a/2\.png or to x/b/2\.png; write more of the path"):
        found.of(["x/a/2.png", "x/b/2.png"])
