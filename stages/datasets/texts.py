"""Texts: their form, and the vocabulary that turns them into token ids."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from stages.support.sections import Section

TEXTS = "texts"  # what a source gives that reads them, and what a kind of task has that is of them


class TextForm(Section):
    """Every text of a task: `length` tokens at most, [CLS] and [SEP] included; longer ones are cut, shorter ones padded.

    A vocabulary of `vocabulary` word pieces (more where there are more letters) is trained on the training split, or is that of
    the Hugging Face folder `tokenizer`, which then says how a text becomes tokens.
    """

    length: Annotated[int, Field(ge=8)]
    vocabulary: Annotated[int, Field(ge=100)] = 5000
    tokenizer: str | None = None

    @property
    def trained(self) -> "TextForm":
        """The form of what networks are trained on: the same."""
        return self

    @property
    def shape(self) -> tuple[int]:
        """The shape of a text: (tokens,)."""
        return (self.length,)


@dataclass(frozen=True)
class Vocabulary:
    """`words` by token id; the ids of [PAD], [CLS], [SEP] and [MASK]; and all ids that are `special` or unused, so no words."""

    words: tuple[str, ...]
    pad: int
    cls: int
    sep: int
    mask: int
    special: tuple[int, ...]

    @classmethod
    def restored(cls, content: dict[str, Any]) -> "Vocabulary":
        """From JSON, which knows lists only."""
        return cls(**{**content, "words": tuple(content["words"]), "special": tuple(content["special"])})

    @property
    def tokens(self) -> dict[str, int | list[int]]:
        """All that a network must know: how many there are, and which ids mean something."""
        ids = {"pad": self.pad, "cls": self.cls, "sep": self.sep, "mask": self.mask}
        return {"vocabulary": len(self.words), **ids, "special": list(self.special)}
