"""Texts: tables, the built-in grammar, vocabularies and tokens."""

import tarfile

import pytest
import torch

from stages.datasets.examples import Examples, joined, written
from stages.datasets.sources.csv import Source as Csv
from stages.datasets.sources.topics import OTHERS, TOPICS
from stages.datasets.sources.topics import Source as Topics
from stages.datasets.texts import TextForm
from stages.kinds.text import splits
from stages.support.errors import UserError

FORM = TextForm(length=12, vocabulary=150)


def table(folder, name, text, encoding="utf-8"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return str(folder)


def read(path, test=False, **options):
    source = Csv(source="csv", path=path, **{"label": 0, "text": [1], **options})
    return source.read_test(FORM) if test else source.read(FORM)


def test_a_table_gives_texts_and_classes_in_the_order_of_their_numbers(tmp_path):
    path = table(tmp_path, "train.csv", '"10","one, two","three"\n"2","vier ""fünf""","six\nseven"\n"2","x",""\n')
    examples = read(path, text=[1, 2])
    assert examples.texts == ("one, two three", 'vier "fünf" six\nseven', "x")
    assert examples.classes == ("2", "10")
    assert examples.label.tolist() == [1, 0, 0]
    table(tmp_path, "classes.txt", "World\nSports\n")
    assert read(path).classes == ("World", "Sports")
    assert read(path, label=None).classes == ()
    assert "label" not in read(path, label=None).columns
    table(tmp_path, "test.csv", "2,a\n10,b\n")
    assert Csv(source="csv", path=path, label=0, text=[1], test="test.csv").read_test(FORM).label.tolist() == [0, 1]
    assert Csv(source="csv", path=path, label=0, text=[1]).read_test(FORM) is None


@pytest.mark.parametrize("mark", [";", "\t"])
def test_columns_are_separated_by_what_splits_most_rows(tmp_path, mark):
    """A comma may stand in the text of one."""
    path = table(tmp_path, "train.csv", f"0{mark}good film\n1{mark}bad, really\n0{mark}fine\n")
    assert read(path).texts == ("good film", "bad, really", "fine")


def test_columns_have_names_and_tables_lie_in_archives(tmp_path):
    table(tmp_path / "in", "sub/train.csv", "\ufeffkind,note,body\nham,1,hello there\nspam,2,buy now\n")
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "in/sub/train.csv", "sub/train.csv")
    examples = read(str(tmp_path / "a.tar.xz"), train="sub/train.csv", label="kind", text=["body"])
    assert examples.texts == ("hello there", "buy now")
    assert examples.classes == ("ham", "spam")
    table(tmp_path, "train.csv", "kind,body\nb,x\n\na,y\n")
    table(tmp_path, "test.csv", "kind,body\na,x\n\nc,y\n")
    named = Csv(source="csv", path=str(tmp_path), label="kind", text=["body"], test="test.csv")
    assert (named.read(FORM).classes, named.read(FORM).label.tolist()) == (("a", "b"), [1, 0])
    with pytest.raises(UserError, match="row 4: the label 'c' is none of"):
        named.read_test(FORM)
    table(tmp_path, "classes.txt", "b\na\n")  # says the order
    assert (named.read(FORM).classes, named.read(FORM).label.tolist()) == (("b", "a"), [0, 1])


def test_numbers_are_in_their_order_below_nought_too(tmp_path):
    path = table(tmp_path, "train.csv", "0,a\n-1,b\n10,c\n2,d\n")
    assert read(path).classes == ("-1", "0", "2", "10")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0,a\n1,\n", {}, r"train\.csv, row 2: the text is empty"),
        ("0,a\n1\n", {}, r"train\.csv, row 2: has 1 columns, column 1 is asked for"),
        ("", {}, r"train\.csv has no rows"),
        ("0,a\n,b\n", {}, r"train\.csv, row 2: the label is empty"),
        ("k,t\n0,a\n", {"label": "kind", "text": ["t"]}, r"has no column 'kind' in its first row; it has k, t"),
        ("0,a\n", {"train": "tain.csv"}, r"has no tain\.csv; it has train\.csv"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_file_and_row(text, options, message, tmp_path):
    path = table(tmp_path, "train.csv", text)
    with pytest.raises(UserError, match=message):
        read(path, **options)


def test_other_encodings_labels_and_lists_of_classes_are_refused(tmp_path):
    path = table(tmp_path, "train.csv", "0,a\n1,b\n")
    table(tmp_path, "test.csv", "0,a\n7,b\n")
    with pytest.raises(UserError, match=r"test\.csv, row 2: the label '7' is none of train\.csv: 0, 1"):
        Csv(source="csv", path=path, label=0, text=[1], test="test.csv").read_test(FORM)
    table(tmp_path, "classes.txt", "one\n")
    with pytest.raises(UserError, match=r"classes\.txt names 1 classes, train\.csv has 2: 0, 1"):
        read(path)
    table(tmp_path, "train.csv", "0,caf\u00e9\n", "latin-1")
    with pytest.raises(UserError, match=r"train\.csv is not UTF-8 \(byte 5\)"):
        read(path)
    with pytest.raises(UserError, match="the archive nowhere is missing"):
        read("nowhere")


def test_sentences_are_the_same_every_time_of_their_own_words_and_others_have_no_label():
    source = Topics(source="topics", count=400, test=40)
    one, again, test = source.read(FORM), source.read(FORM), source.read_test(FORM)
    assert one.texts == again.texts
    assert one.classes == tuple(TOPICS)
    assert torch.bincount(one.label).tolist() == [100] * 4
    assert not set(one.texts) & set(test.texts)
    other = Topics(source="topics", count=40, other=True)
    assert other.read_test(FORM) is None
    words = {word for text in other.read(FORM).texts for word in text.split()}
    assert words & set(" ".join(part for topic in OTHERS.values() for part in topic).split())
    assert "label" not in other.read(FORM).columns
    for name, parts in TOPICS.items():  # a topic's words are more frequent in its sentences than in all others'
        own = set(" ".join(parts).split())
        rates = [
            sum(word in own for text, label in zip(one.texts, one.label, strict=True) if (label == k) for word in text.split())
            for k in range(4)
        ]
        assert rates[one.classes.index(name)] == max(rates)


def packed(train=None, form=FORM, folder=None):
    train = train or Topics(source="topics", count=200).read(form)
    return splits.packer(train, form, folder)


def test_texts_become_framed_padded_ids_that_can_be_read_back(tmp_path):
    import tokenizers

    pack = packed(folder=tmp_path)
    examples = pack(written(["the keeper scores", "the goal " * 20, "zzz \u4e2d"], torch.tensor([0, 1, 0]), ("a", "b")))
    known = examples.vocabulary
    assert [known.words[i] for i in (known.pad, known.cls, known.sep, known.mask)] == ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    assert examples.input.shape == (3, 12)
    assert examples.input[:, 0].tolist() == [known.cls] * 3
    lengths = examples.columns["length"].tolist()
    assert lengths[1] == 12  # cut
    for row, n in zip(examples.input, lengths, strict=True):
        assert row[n - 1] == known.sep
        assert (row[n:] == known.pad).all()
        assert not (row[:n] == known.pad).any()
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.decode(examples.input[0].tolist()) == "the keeper scores"
    assert pack(written(["the [PAD] goal"])).columns["length"].item() > 5  # written out, not the token
    assert not (pack(written(["the [PAD] goal"])).input[0, :6] == known.pad).any()
    assert len(known.words) <= 150
    assert set(known.special) == {0, 1, 2, 3, 4}


def test_the_vocabulary_is_of_the_training_split_and_the_same_every_time(tmp_path):
    train = written(["alpha beta gamma"] * 3 + ["beta delta"] * 3)
    pack, again = (packed(train, folder=tmp_path / name) for name in "ab")
    words = pack(train).vocabulary.words
    assert {"alpha", "beta", "gamma", "delta"} <= set(words)
    assert again(train).vocabulary.words == words
    strange = pack(written(["omicron alpha"])).input[0]
    assert words.index("alpha") in strange
    assert "omicron" not in words


def test_a_set_of_texts_survives_its_file_and_finds_its_twins(tmp_path):
    pack = packed(folder=tmp_path)
    one = pack(written(["The keeper scores", "a great goal", "no city"]))
    one.save(tmp_path / "x.safetensors")
    found = Examples.load(tmp_path / "x.safetensors")
    assert found.vocabulary == one.vocabulary
    assert torch.equal(found.input, one.input)
    other = pack(written(["an old plan", "the   keeper scores"]))
    assert splits.twins(one, other, "").tolist() == [0]
    assert splits.twins(other, pack(written(["nothing"])), "").tolist() == []


def test_sets_of_texts_are_joined_and_split():
    one, other = written(["a", "b"], torch.tensor([0, 1]), ("x", "y")), written(["c"])
    both = joined([one, other])
    assert both.texts == ("a", "b", "c")
    assert "label" not in both.columns
    assert both.index.tolist() == [0, 1, 2]
    assert both.subset(torch.tensor([2, 0])).texts == ("c", "a")
    rest, held = splits.held_out(written(map(str, range(20)), torch.arange(20) % 2, ("x", "y")), 0.2)
    assert sorted(rest.texts + held.texts, key=int) == list(map(str, range(20)))
    assert len(held) == 4


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="the tokenizer's folder nowhere is missing"):
        packed(form=TextForm(length=12, tokenizer="nowhere"), folder=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no tokenizer that can be read"):
        packed(form=TextForm(length=12, tokenizer=str(tmp_path / "empty")), folder=tmp_path)


def test_numbers_as_pandas_writes_them_beside_a_gap_are_in_their_order(tmp_path):
    table(tmp_path, "train.csv", "".join(f"{k}.0,a word\n" for k in (10, 2, 0, 11, 1)))
    assert read(str(tmp_path)).classes == ("0.0", "1.0", "2.0", "10.0", "11.0")


@pytest.mark.parametrize(
    "text",
    ['0,a good one\n1,"never closed\n0,lost\n1,lost too\n', '0,fine\n1,"open\n0,lost\n1,lost\n0,here it ends"\n1,fine\n'],
)
def test_a_quote_that_swallows_rows_is_named(tmp_path, text):
    table(tmp_path, "train.csv", text)
    with pytest.raises(UserError, match=r"train\.csv, row 2: .*is a quote left open\?"):
        read(str(tmp_path))


def test_texts_of_several_lines_are_whole(tmp_path):
    table(tmp_path, "train.csv", '0,"two lines,\nand a comma"\n1,one\n')
    assert read(str(tmp_path)).texts == ("two lines,\nand a comma", "one")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_what_separates_columns_is_seen(tmp_path, mark):
    """Commas in the texts, more in some than in others, are no columns."""
    table(tmp_path, "train.csv", f"good, nice{mark}2\nbad{mark}1\nwell, well, well{mark}2\n")
    found = read(str(tmp_path), text=[0], label=1)
    assert found.texts == ("good, nice", "bad", "well, well, well")
    assert found.classes == ("1", "2")


def test_a_table_of_utf_16_is_read(tmp_path):
    table(tmp_path, "train.csv", "0,caf\u00e9\n1,th\u00e9\n", "utf-16")
    assert read(str(tmp_path)).texts == ("caf\u00e9", "th\u00e9")


def test_a_path_may_be_that_of_one_table(tmp_path):
    table(tmp_path, "pool.tsv", "one\t0\ntwo\t1\n")
    assert read(str(tmp_path / "pool.tsv"), text=[0], label=None).texts == ("one", "two")
    with pytest.raises(UserError, match=r"has no train\.csv; it has pool\.tsv; say `train: pool\.tsv`"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,bank\n1,bank,money\n", "row 2: has 3 columns, and the first has 2; put the text into quotes"),
        ("label,text\n0,bank\n1,money\n", "row 1: 'label' is no number .*; if these are titles, name the columns by them"),
    ],
)
def test_what_a_table_would_lose_is_said(tmp_path, text, message):
    table(tmp_path, "train.csv", text)
    with pytest.raises(UserError, match=message):
        read(str(tmp_path))
