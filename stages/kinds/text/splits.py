"""How labelled texts are split, turned into tokens, and which of them are the same."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.datasets.examples import INPUT, LENGTH, Examples
from stages.datasets.texts import TextForm, Vocabulary
from stages.kinds.classification.splits import check, held_out, of
from stages.support.errors import UserError
from stages.support.extras import optional
from stages.support.files import replacing

__all__ = ["check", "held_out", "of", "packer", "twins"]

PAD, UNK, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WITHIN = "##"  # begins a piece that goes on in a word
UNUSED = r"\[unused\d+\]"
TWICE = 2  # how often a piece must occur to stand in the vocabulary
FILE = "tokenizer.json"


def packer(train: Examples, form: TextForm, folder: Path) -> Callable[[Examples], Examples]:
    """How texts become token ids: by the tokenizer that the form names, or by one that is trained on `train`.

    The tokenizer is written into `folder`, for those who will use the student. Raises UserError where the one that is named is
    missing or lacks a special token.
    """
    tokenizer, vocabulary = _given(form.tokenizer) if form.tokenizer else _trained(train, form)
    tokenizer.enable_truncation(form.length)
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a text that says [PAD] means the word
    with replacing(folder / FILE) as temporary:
        temporary.write_text(tokenizer.to_str())

    def packed(examples: Examples) -> Examples:
        ids = [torch.tensor(one.ids) for one in tokenizer.encode_batch_fast(list(examples.texts))]
        inputs = torch.full((len(ids), form.length), vocabulary.pad)
        for row, tokens in zip(inputs, ids, strict=True):
            row[: len(tokens)] = tokens
        columns = {**examples.columns, INPUT: inputs, LENGTH: torch.tensor([len(tokens) for tokens in ids], dtype=torch.int64)}
        return Examples(columns, examples.classes, vocabulary=vocabulary)

    return packed


def twins(examples: Examples, others: Examples, what: str) -> Tensor:
    """Rows of `examples` that have the same tokens as one of `others`: the same words, whatever stands between them."""
    known = {row.numpy().tobytes() for row in others.input}
    return torch.tensor([place for place, row in enumerate(examples.input) if row.numpy().tobytes() in known], dtype=torch.int64)


def _trained(train: Examples, form: TextForm) -> tuple[Any, Vocabulary]:
    """Pieces of lower-case words (WordPiece), cut at spaces and signs; always the same ones of the same texts."""
    words = _learned(train.texts, form.vocabulary)
    tokenizers, tokenizer = _library(), _tokenizer(words)
    ids = {word: words[word] for word in SPECIAL}
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", special_tokens=[(word, ids[word]) for word in (CLS, SEP)]
    )
    return tokenizer, _vocabulary(tokenizer, [ids[word] for word in (PAD, CLS, SEP, MASK)], set(ids.values()))


def _learned(texts: Sequence[str], count: int) -> dict[str, int]:
    """Word or piece -> id. The trainer numbers what goes on in a word in a random order, and so chooses between equals by chance:
    it is given them in order, as if they were special.
    """
    tokenizer = _tokenizer({})
    letters = sorted(set("".join(tokenizer.normalizer.normalize_str(text) for text in texts)) - set(" "))
    trainer = _library().trainers.WordPieceTrainer(
        vocab_size=count,
        min_frequency=TWICE,
        special_tokens=[*SPECIAL, *(f"{WITHIN}{letter}" for letter in letters)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned: dict[str, int] = tokenizer.get_vocab()
    return learned


def _tokenizer(words: dict[str, int]) -> Any:
    tokenizers = _library()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token=UNK, continuing_subword_prefix=WITHIN))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _given(folder: str) -> tuple[Any, Vocabulary]:
    """That of a local folder of Hugging Face."""
    if not Path(folder).is_dir():
        raise UserError(f"the tokenizer's folder {folder} is missing; put it there, or mend `text.tokenizer`")
    try:
        found = optional("transformers", "text").AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no tokenizer that can be read ({str(error).splitlines()[0]})") from None
    ids = [getattr(found, f"{word}_token_id") for word in ("pad", "cls", "sep", "mask")]
    if None in ids or not found.is_fast:
        raise UserError(f"the tokenizer in {folder} must be a fast one with tokens for padding, begin, end and mask")
    tokenizer = found.backend_tokenizer
    unused = {place for word, place in tokenizer.get_vocab().items() if re.fullmatch(UNUSED, word)}
    return tokenizer, _vocabulary(tokenizer, ids, set(found.all_special_ids) | unused)


def _vocabulary(tokenizer: Any, named: list[int], special: set[int]) -> Vocabulary:
    """Return the ids of [PAD], [CLS], [SEP] and [MASK], and the ids of all special tokens."""
    words = {place: word for word, place in tokenizer.get_vocab().items()}
    count = max(words) + 1
    gaps = set(range(count)) - words.keys()
    pad, cls, sep, mask = named
    return Vocabulary(tuple(words.get(i, "") for i in range(count)), pad, cls, sep, mask, tuple(sorted(special | gaps)))


def _library() -> Any:
    return optional("tokenizers", "text")
