"""Encoders of texts: padding, embeddings as inputs, what a shallow one starts from, folders of Hugging Face."""

import pytest
import torch

from stages.engine.teacher import Teacher
from stages.networks import weights
from stages.networks.build import build
from stages.support.errors import UserError
from tests.small import PLAIN, encoder, sentences, vocabulary

MODELS = {
    "bert": {"model_type": "bert"},
    "roberta": {"model_type": "roberta", "type_vocab_size": 1},
    "distilbert": {"model_type": "distilbert", "dim": 16, "n_heads": 4, "n_layers": 4, "hidden_dim": 32},
    "electra": {"model_type": "electra", "embedding_size": 16},
}
SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 32}


def imported(kind, known, name="huggingface"):
    sizes = {} if kind == "distilbert" else SIZES
    model = {**MODELS[kind], **sizes, "vocab_size": 60, "max_position_embeddings": 20, "pad_token_id": known.pad}
    return build(name, 2, {"length": 12, **known.tokens, "model": model})


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("pad", [0, 1])
def test_padding_changes_nothing_and_embeddings_are_as_good_as_ids(kind, pad, fp64):
    known = vocabulary(pad=pad)
    net, examples = imported(kind, known).eval(), sentences(known=known)
    ids = examples.input
    with torch.no_grad():
        whole = net(ids)
        embedded = net(torch.where((ids == pad)[:, :, None], 0.0, net.table[ids]))
        each = [net.net(input_ids=row[None, :n]).logits[0] for row, n in zip(ids, examples.columns["length"], strict=True)]
    assert torch.allclose(whole, torch.stack(each), atol=1e-10)
    assert torch.allclose(embedded, whole, atol=1e-10)
    assert not torch.allclose(whole, net(ids.flip(0)), atol=1e-7)


@pytest.mark.parametrize("kind", MODELS)
def test_a_shallow_encoder_starts_from_evenly_spaced_layers_or_the_first(kind):
    known = vocabulary()
    deep = imported(kind, known)
    for how, layers, chosen in (("spread", 2, (1, 3)), ("spread", 1, (3,)), ("spread", 3, (0, 1, 3)), ("first", 2, (0, 1))):
        shallow = imported(kind, known, f"huggingface_{layers}")
        weights.copy_layers(shallow, deep, how, "")
        theirs, mine = deep.net.state_dict(), shallow.net.state_dict()
        expected = {}
        for name, value in theirs.items():
            prefix, found, rest = name.partition(".layer.")
            if not found:
                expected[name] = value
            elif int(rest.split(".")[0]) in chosen:
                number, _, tail = rest.partition(".")
                expected[f"{prefix}.layer.{chosen.index(int(number))}.{tail}"] = value
        assert mine.keys() == expected.keys()
        assert all(torch.equal(mine[name], value) for name, value in expected.items())


def test_twelve_layers_to_four_are_every_third():
    deep, shallow = encoder("bert_12_8"), encoder("bert_4_8")
    weights.copy_layers(shallow, deep, "spread", "")
    for mine, theirs in enumerate((3, 6, 9, 12)):  # counted from 1
        one, other = (net.net.bert.encoder.layer[i].state_dict() for net, i in ((shallow, mine), (deep, theirs - 1)))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match=r"student of 4 layers cannot start from a teacher of 2"):
        weights.copy_layers(encoder("bert_4_8"), encoder("bert_2_8"), "spread", "x")
    with pytest.raises(UserError, match="'first' has another form in the teacher"):
        weights.copy_layers(encoder("bert_1_8"), encoder("bert_2_16"), "first", "x")
    with pytest.raises(UserError, match=r"^x: `spread` is of encoders of texts"):
        weights.copy_layers(build("convnet_4", 2, (1, 16, 16)), build("convnet_4", 2, (1, 16, 16)), "spread", "x")
    with pytest.raises(UserError, match="network 'convnet_4' is for images"):
        encoder("convnet_4")
    with pytest.raises(UserError, match="network 'bert_2_16' is for texts"):
        build("bert_2_16", 2, (1, 16, 16))
    with pytest.raises(UserError, match="its 4 heads do not divide a width of 18"):
        encoder("bert_1_18")
    with pytest.raises(UserError, match="network 'huggingface': the teacher was not imported"):
        encoder("huggingface")


def test_an_encoder_survives_its_folder(tmp_path):
    net, known = imported("roberta", vocabulary(pad=1)), vocabulary(pad=1)
    text = {"length": 12, **known.tokens, "model": net.net.config.to_diff_dict()}
    blueprint = weights.Blueprint("huggingface", ("a", "b"), (12,), text=text)
    weights.save(tmp_path, blueprint, net, sentences(1, known=known).input, {})
    found, again = weights.load(tmp_path)
    assert found == blueprint
    ids = sentences(known=known).input
    assert torch.equal(again.eval()(ids), net.eval()(ids))
    assert Teacher(again).can == {*PLAIN, "gradient", "embeddings"}
    assert Teacher(again, encoder("bert_1_16")).can == {*PLAIN, "gradient"}
