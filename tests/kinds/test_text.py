"""Tasks of text from table to student, by a teacher of our own and by one from a folder of Hugging Face."""

import csv
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages import curate, distill, evaluate, export, prepare, report, train_teacher
from stages.datasets.examples import Examples, written
from stages.datasets.texts import TextForm
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from stages.jobs.requirements import why_not
from stages.jobs.setup import DATA, able, open_setting
from stages.kinds.text.figures import words
from stages.kinds.text.splits import packer
from stages.methods import method_class
from stages.networks import weights
from stages.settings import params
from stages.settings.params import method_names
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.tools import predict
from tests import small
from tests.small import encoder, sentences, text

WORDS = ["river", "bank", "money", "water", "boat", "loan", "tide", "credit"]


def table(path, label, n=90):
    """Texts of three words to eight, and what `label` says of each."""
    rng = np.random.default_rng(len(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        for _ in range(n):
            text = " ".join(map(str, rng.choice(WORDS, rng.integers(3, 9))))
            csv.writer(file).writerow([label(text), text])


def folder_of(kind, where):
    """A randomly initialised classifier with its tokenizer, as Hugging Face's library saves them; returns it and what it says."""
    import tokenizers
    import transformers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if kind == "roberta" else ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    order = ("cls", "pad", "sep", "unk", "mask") if kind == "roberta" else ("pad", "unk", "cls", "sep", "mask")
    names = dict(zip(order, special, strict=True))
    ids = {word: i for i, word in enumerate([*special, "[unused0]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token=names["unk"]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{names['cls']} $A {names['sep']}", special_tokens=[(names[word], ids[names[word]]) for word in ("cls", "sep")]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{word}_token": name for word, name in names.items()}
    )
    fast.save_pretrained(where)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=len(ids),
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
        pad_token_id=ids[names["pad"]],
        initializer_range=0.3,
    )
    net = transformers.AutoModelForSequenceClassification.from_config(config)
    net.eval().save_pretrained(where)
    return net, lambda text: int(net(torch.tensor([fast(text).input_ids])).logits[0].diff() > 0)


@pytest.fixture
def brought(project, tmp_path):
    """The task agnews-bert with data, a tokenizer and a teacher of a few numbers, whose answers are the labels."""

    def make(kind="bert", **changes):
        net, says = folder_of(kind, tmp_path / "hf")
        for name in ("train.csv", "test.csv"):
            table(tmp_path / "news" / name, says)
        table(tmp_path / "other" / "train.csv", len)
        sha256 = hashlib.sha256((tmp_path / "hf" / "model.safetensors").read_bytes()).hexdigest()
        project.change(
            "task.agnews-bert",
            text={"length": 12, "tokenizer": "hf"},
            in_domain={"source": "csv", "path": "news", "test": "test.csv", "label": 0, "text": [1]},
            ood={"source": "csv", "path": "other", "text": [1]},
            curate={"keep": "all"},
            teacher={"network": "huggingface", "weights": {"path": "hf/model.safetensors", "sha256": sha256}},
            distill={
                **project.section("agnews-bert")["distill"],
                "student": {"network": "huggingface_2", "teacher_layers": "spread", "frozen": [f"{kind}.embeddings"]},
            },
        )
        project.change("task.agnews-bert", **changes)
        project.change("run", tasks=["agnews-bert"], methods=["asdfd", "initialised"], seeds=[0])
        return net

    return make


def test_texts_that_nobody_labelled_are_compared_with_the_teacher(brought):
    brought(in_domain=None, classes=["short", "long"])
    for stage in (prepare, train_teacher, curate):
        stage.main("agnews-bert")
    distill.main("agnews-bert", "initialised", "0")
    distill.main("agnews-bert", "asdfd", "0")
    evaluate.main("agnews-bert")
    scores = json.loads((Places("agnews-bert").scores("asdfd", 0) / "metrics.json").read_text())
    assert {"agree_pool", "kl_pool"} <= scores.keys()
    assert "top1" not in scores


@pytest.mark.filterwarnings("ignore")
def test_a_student_of_texts_ships_with_its_tokenizer(brought, project, capsys):
    """Its card says its own depth, and its snippet runs."""
    runtime = pytest.importorskip("onnxruntime")
    brought()
    project.change("run", methods=["initialised"])
    project.change("export", tasks=["agnews-bert"])
    project.teach("agnews-bert")
    distill.main("agnews-bert", "initialised", "0")
    evaluate.main("agnews-bert")
    export.main("agnews-bert")
    places = Places("agnews-bert")
    card = json.loads((places.student("initialised", 0) / "card.json").read_text())
    assert card["text"]["model"]["num_hidden_layers"] == 2
    folder, test = places.exported / "initialised" / "0", Examples.load(places.split("test"))
    _, student = weights.load(places.student("initialised", 0))
    with torch.no_grad():
        logits = student.eval()(test.input)
    session = runtime.InferenceSession(str(folder / "student.onnx"))
    got = torch.from_numpy(session.run(["logits"], {"inputs": test.input.numpy()})[0])
    torch.testing.assert_close(got, logits, rtol=1e-3, atol=1e-4)
    capsys.readouterr()
    predict.main(str(folder), "news/test.csv", "--column", "1")
    titles, *rows = csv.reader(capsys.readouterr().out.splitlines())
    assert titles[:3] == ["input", "class", "confidence"]
    with Path("news/test.csv").open(newline="") as table:
        assert len(rows) == len(list(csv.reader(table)))
    odd = "the [SEP] of river"  # a word in training, and so here
    Path("odd.csv").write_text(odd)
    predict.main(str(folder), "odd.csv")
    _, line = csv.reader(capsys.readouterr().out.splitlines())
    ids = packer(test, TextForm(length=12, tokenizer="hf"), project.folder)(written([odd])).input
    with torch.no_grad():
        said = student(ids)
    assert float(line[2]) == pytest.approx(said.softmax(1).max().item(), abs=1e-3)
    Path("holes.csv").write_text("a;b\nthe river;1\n;2\nthe song;3\n")
    predict.main(str(folder), "holes.csv", "--column", "a")
    said = capsys.readouterr()
    assert [line.split(",")[0] for line in said.out.splitlines()[1:]] == ["holes.csv:2", "holes.csv:4"]
    assert "skipped holes.csv, row 3: the text is empty" in said.err
    snippet = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", snippet], cwd=folder, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_folder_of_hugging_face_teaches_a_shallower_student(kind, brought):
    net = brought(kind)
    prepare.main("agnews-bert")
    train = Examples.load(Places("agnews-bert").split("train"))
    known = train.vocabulary
    assert known.words[known.mask] == ("<mask>" if kind == "roberta" else "[MASK]")
    assert known.words.index("[unused0]") in known.special
    train_teacher.main("agnews-bert")
    _, teacher = weights.load(Places("agnews-bert").teacher)
    ids = train.input[:8]
    with torch.no_grad():
        assert torch.allclose(teacher.eval()(ids), net(ids, attention_mask=(ids != known.pad).long()).logits, atol=1e-5)
    curate.main("agnews-bert")
    for row in ("asdfd", "initialised"):
        distill.main("agnews-bert", row, "0")
    started, trained = (load_file(Places("agnews-bert").student(row, 0) / weights.WEIGHTS) for row in ("initialised", "asdfd"))
    theirs = net.state_dict()
    for name, value in started.items():
        source = name.replace("layer.1.", "layer.3.").replace("layer.0.", "layer.1.")
        assert torch.equal(value, theirs[source]), name
    frozen = {name for name, value in trained.items() if torch.equal(value, started[name])}
    assert {name for name in trained if ".embeddings." in name} <= frozen
    assert not any(".encoder.layer.0.attention.self.query.weight" in name for name in frozen)
    evaluate.main("agnews-bert")
    report.main("agnews-bert")
    folder = Places("agnews-bert").figures
    assert {path.name for path in folder.iterdir()} == {
        *("samples.md", "pool-extremes.md", "curves.png", "accuracy.png", "confusion.png", "diversity.png"),
        *("pool-scores.png", "pool-classes.png"),
    }
    shown = (folder / "samples.md").read_text()
    assert "| asdfd " in shown
    assert not set(shown.split()) & {known.words[i] for i in known.special}
    scores = json.loads((Places("agnews-bert").scores("asdfd", 0) / "metrics.json").read_text())
    assert {"top1", "agree", "spread", "forwards"} <= scores.keys()
    assert scores["backwards"] == scores["images"] * 5


def test_logits_are_taken_by_the_names_of_the_classes(brought, project, tmp_path):
    """A configuration that numbers the classes in another order than their names have."""
    net, folder = brought(), tmp_path / "hf"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "1", "1": "0"}, "label2id": {"1": 0, "0": 1}}))
    state = load_file(folder / "model.safetensors")
    turned = {
        name: value.flip(0).contiguous() if value.shape[:1] == (2,) and "classifier" in name else value
        for name, value in state.items()
    }
    save_file(turned, folder / "model.safetensors", {"format": "pt"})
    project.change("task.agnews-bert", teacher={"network": "huggingface", "weights": {"path": "hf"}})
    prepare.main("agnews-bert")
    train_teacher.main("agnews-bert")
    card = json.loads((Places("agnews-bert").teacher / "card.json").read_text())
    assert card["interface"]["keep"] == [1, 0]
    assert card["val_top1"] == 100
    ids = Examples.load(Places("agnews-bert").split("train")).input[:8]
    with torch.no_grad():
        answer = weights.load(Places("agnews-bert").teacher)[1].eval()(ids)
        expected = net(ids, attention_mask=(ids != net.config.pad_token_id).long()).logits
    assert torch.allclose(answer, expected, atol=1e-5)
    curate.main("agnews-bert")
    distill.main("agnews-bert", "asdfd", "0")
    assert (Places("agnews-bert").student("asdfd", 0) / weights.WEIGHTS).exists()


def test_what_does_not_fit_an_imported_teacher_is_said(brought, tmp_path):
    brought(text={"length": 32, "tokenizer": "hf"})
    prepare.main("agnews-bert")
    with pytest.raises(UserError, match=r"the model has 20 positions, the task's texts 32"):
        train_teacher.main("agnews-bert")
    brought(text={"length": 12, "vocabulary": 100})
    prepare.main("agnews-bert")
    with pytest.raises(UserError, match=r"the model has 14 words, the task's texts \d+; take its own `text.tokenizer`"):
        train_teacher.main("agnews-bert")
    brought()
    (tmp_path / "hf" / "config.json").unlink()
    prepare.main("agnews-bert")
    with pytest.raises(UserError, match=r"hf/config.json is missing; weights of Hugging Face have it beside them"):
        train_teacher.main("agnews-bert")


EVERY = ("supervised", "kd_in_domain", "kd_ood", "balanced", "dfnd", "asdfd", "random_tokens", "noise_embeddings")


def test_who_serves_texts():
    task = text()
    served = {
        name
        for name in method_names()
        if not why_not(of := small.method_class(name), of.Params(), task.kind.has, able(task), DATA - {"student_domain"})
    }
    assert served == {*EVERY, "initialised"}


@pytest.mark.parametrize("name", EVERY)
def test_the_student_learns_from_texts_and_the_teacher_stays(name):
    of = small.method_class(name)
    game = of(text(), of.Params())
    before = {key: value.clone() for key, value in game.teacher.state_dict().items()}
    start = {key: value.clone() for key, value in game.student.net.state_dict().items()}
    game.student.anneal(0.5)
    for _ in range(2):
        assert all(torch.isfinite(value).all() for value in game.step().values())
    assert all(torch.equal(value, before[key]) for key, value in game.teacher.state_dict().items())
    assert not all(torch.equal(value, start[key]) for key, value in game.student.net.state_dict().items())


def test_a_task_has_one_form(project):
    project.change("task.topics", image={"size": 16, "channels": 1})
    with pytest.raises(UserError, match=r"tasks/texts\.yaml: topics: give either `image` .* or `text`"):
        params.load().task("topics")


def test_frozen_modules_are_named(project):
    project.change("run", tasks=["topics"], scale="smoke")
    student = project.section("topics")["distill"]["student"]
    project.teach("topics")
    project.change("task.topics.distill", student={**student, "frozen": ["bert.embedings"]})
    settings = params.load()
    with pytest.raises(UserError, match=r"student\.frozen: the student's network has no module 'bert.embedings'; did you mean"):
        open_setting(
            Places("topics"), settings.task("topics"), method_class(settings, "kd_ood"), 0, rt.Runtime(torch.device("cpu"))
        )


def test_the_nearest_words_are_by_cosine():
    table = torch.eye(4)
    found = words(torch.tensor([[0.1, 3.0, 0.0, 9.0], [5.0, 4.0, 0.0, 0.0]]), table, torch.tensor([0, 1, 2]))
    assert found.tolist() == [1, 0]


def test_samples_of_texts_come_back_from_disk_as_they_were():
    kind = text().kind
    ids, vectors = sentences().input, torch.randn(3, 12, 16)
    assert torch.equal(kind.plain(kind.stored(ids)), ids)
    assert torch.allclose(kind.plain(kind.stored(vectors)), vectors, atol=1e-2)
    assert kind.plain(kind.stored(vectors)).dtype == torch.float32
    net = encoder("bert_1_16").eval()
    assert kind.answers(Teacher(net), sentences()).shape == (48, 2)
