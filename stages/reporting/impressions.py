"""Tables of what templates remember, and whether what the paper says is so (Impression Space, arXiv:2007.05441)."""

import math
from typing import Any

import pandas as pd

from stages.reporting.intervals import half_interval

TRAINED, RANDOM = "trained", "random"  # templates
PIXELS, BOTH, MEANS = "pixels", "mean + std", "mean"  # codes
SHIFTED, REPLACED = "shifted", "replaced"  # impressions of images on their way to another class
DECODED = {"first": "D at first", "last": "D at last", "agree": "says the same, %", "retrieved": "found by another, %"}
MOVED = {"before": "taken for the other class before, %", "after": "... after, %", "layout": "layout kept"}


def written(title: str, made: dict[str, Any], near: pd.DataFrame, decoding: pd.DataFrame, moved: pd.DataFrame) -> str:
    """Markdown: means over networks with 95 % t-intervals, and what was expected. `made` says where, on how many images."""
    judged = [f"- {'yes' if so else 'no'}: {what}" for what, so in expected(near, decoding, moved)]
    parts = [
        f"# What the teacher of {title} remembers",
        "Means over networks of one make with 95 % t-intervals; `random` has random weights and the running statistics of the "
        "training images. Each network's images are judged by another trained one. Validation images only.",
        "## Nearest neighbours tell the class",
        _table(near, {"top1": "5-NN top-1, %"}),
        "## Images decoded from their impressions",
        _table(decoding, DECODED),
        "A decoding distance D says nothing of what was decoded; that another network finds the image among all does.",
        "## Images on their way to another class",
        _table(moved, MOVED),
        "## Expected",
        "\n".join(judged),
        "; ".join(f"{key}: {value}" for key, value in made.items()) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _table(found: pd.DataFrame, columns: dict[str, str]) -> str:
    groups = found.groupby(["code", "template"], sort=False)
    cells = {title: groups[key].agg(_cell) for key, title in columns.items()}
    return str(pd.DataFrame(cells).reset_index().to_markdown(index=False))


def _cell(values: pd.Series) -> str:
    half = half_interval(list(values))
    return f"{values.mean():.2f}" if math.isnan(half) else f"{values.mean():.2f} ± {half:.2f}"


def expected(near: pd.DataFrame, decoding: pd.DataFrame, moved: pd.DataFrame) -> list[tuple[str, bool]]:
    """What the paper's claims come down to, and whether it is so in the means over networks."""
    top1 = near.groupby(["code", "template"])["top1"].mean()
    layers = [code for code in near["code"].unique() if "layer" in code]
    trained = [top1[code, TRAINED] for code in layers]
    said = [
        ("trained, mean + std above mean alone", top1[BOTH, TRAINED] > top1[MEANS, TRAINED]),
        ("trained 15 points above pixels", top1[BOTH, TRAINED] >= top1[PIXELS, "none"] + 15),
        ("accuracy rises with every layer of trained networks", trained == sorted(trained)),
    ]
    kept = decoding.groupby(["code", "template"])[["first", "last", "retrieved"]].mean()
    fell = 1 - kept["last"] / kept["first"]
    found = kept["retrieved"]
    said += [
        ("decoding distances fall by 90 %", bool((fell > 0.9).all())),
        ("found by another network: mean + std above mean alone", found[BOTH, TRAINED] > found[MEANS, TRAINED]),
    ]
    if RANDOM in set(near["template"]):
        chance = [top1[code, RANDOM] for code in layers]
        said += [
            ("trained, mean alone above random weights", top1[MEANS, TRAINED] > top1[BOTH, RANDOM]),
            ("accuracy does not rise with every layer of random weights", chance != sorted(chance)),
            ("found by another network: trained above random weights", found[BOTH, TRAINED] > found[BOTH, RANDOM]),
        ]
    way = moved.groupby("code")[["before", "after", "layout"]].mean()
    said += [
        (
            "shifted images are taken for the other class more often than before",
            way["after"][SHIFTED] > way["before"][SHIFTED],
        ),
        ("shifting keeps more of the layout than replacing", way["layout"][SHIFTED] > way["layout"][REPLACED]),
    ]
    return said
