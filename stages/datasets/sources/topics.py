"""Sentences of a small grammar about a few topics, two and two of which are easily confused."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from stages.datasets.examples import Examples, written
from stages.datasets.texts import TEXTS, TextForm
from stages.support.sections import Section

# Nouns, verbs and adjectives of a topic. A topic is confused with the one beside it.
TOPICS = {
    "football": (
        "goal keeper striker referee pitch corner penalty league stadium captain defender whistle",
        "scores tackles passes dribbles equalises",
        "offside injured unbeaten muddy",
    ),
    "tennis": (
        "racket serve court set umpire net volley backhand rally champion ace baseline",
        "serves returns smashes volleys breaks",
        "seeded wimbledon agile grassy",
    ),
    "banking": (
        "loan deposit branch mortgage teller account interest creditor vault debt currency lender",
        "lends borrows repays audits transfers",
        "insolvent solvent overdue fiscal",
    ),
    "trading": (
        "share broker index dividend bond portfolio exchange futures auction yield investor hedge",
        "sells buys rallies plunges speculates",
        "bullish bearish volatile undervalued",
    ),
}
OTHERS = {
    "cooking": ("oven recipe onion saucepan flour chef spice kettle", "boils fries bakes stirs", "salty crisp raw"),
    "gardening": ("seed hedge rose spade soil lawn greenhouse weed", "plants waters prunes digs", "leafy wilted sunny"),
    "sailing": ("mast harbour anchor tide deck sail rudder skipper", "sails drifts moors capsizes", "windy calm salty"),
}
COMMON = ("day year people city world plan report week reason group", "says sees takes finds keeps", "new old great small late")
TEMPLATES = (
    "the {a} {n} {v} the {n} of the {n}",
    "a {n} {v} when every {n} is {a}",
    "in the {n} the {n} {v} and the {a} {n} {v} again",
    "no {n} {v} without a {a} {n} , but this {n} {v}",
    "because of the {n} , {n} and {n} are {a}",
    "after the {n} , the {n} that {v} was {a}",
)
OWN, NEIGHBOUR = 0.6, 0.1  # shares of content words that are of the topic and of the one beside it; the rest are common ones


class Source(Section):
    """`count` sentences for training and `test` for testing; of `other` topics, without labels, for a pool."""

    gives: ClassVar[str] = TEXTS
    source: Literal["topics"]
    count: Annotated[int, Field(ge=16)]
    test: Annotated[int, Field(ge=0)] = 0
    other: bool = False

    def read(self, form: TextForm) -> Examples:
        """Always the same sentences."""
        return _sentences(OTHERS if self.other else TOPICS, self.count, 0, not self.other)

    def read_test(self, form: TextForm) -> Examples | None:
        """Always the same sentences, or None where there are none for testing."""
        return _sentences(TOPICS, self.test, 1, True) if self.test else None


def _sentences(topics: dict[str, tuple[str, str, str]], count: int, seed: int, labelled: bool) -> Examples:
    rng, names = np.random.default_rng(seed), list(topics)
    labels = [place % len(names) for place in range(count)]
    texts = [_sentence(rng, topics[names[label]], topics[names[(label ^ 1) % len(names)]]) for label in labels]
    return written(texts, torch.tensor(labels), tuple(names)) if labelled else written(texts)


def _sentence(rng: np.random.Generator, own: tuple[str, ...], beside: tuple[str, ...]) -> str:
    words = []
    for word in str(rng.choice(TEMPLATES)).split():
        if word[0] == "{":
            part = "nva".index(word[1])
            chosen = rng.choice(3, p=(OWN, NEIGHBOUR, 1 - OWN - NEIGHBOUR))
            word = str(rng.choice((own, beside, COMMON)[chosen][part].split()))
        words.append(word)
    return " ".join(words)
