"""A model card in Markdown, with the front matter of Hugging Face: what a student is, how good, and how to run it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from scipy.stats import binomtest

from stages.networks.shipped import INPUT, ONNX, PROGRAM
from stages.reporting.intervals import half_interval
from stages.reporting.tables import Column, number

PIPELINES = {"classification": "image-classification", "segmentation": "image-segmentation", "text": "text-classification"}
METRICS = {"top1": "accuracy", "miou": "mean_iou"}
UNMEASURED = "**Nobody has measured its accuracy: no labelled example was there.** It was compared with its teacher."

OPEN = f"""session = onnxruntime.InferenceSession("{ONNX}")
facts = {{key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}}
"""
# As `to_pixels` of this repository reads images.
IMAGES = f"""import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

{OPEN}size = facts["width"], facts["height"]
image = ImageOps.exif_transpose(Image.open("image.png"))
if image.mode.startswith("I;16"):
    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
elif image.has_transparency_data:
    layer = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
image = ImageOps.fit(image.convert(facts["mode"]), size, Image.Resampling.BILINEAR)
inputs = (np.asarray(image, np.float32) / 255).reshape(1, size[1], size[0], -1).transpose(0, 3, 1, 2)
"""
TEXTS = f"""import json

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

{OPEN}tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # a text that says [SEP] means the word
ids = tokenizer.encode("some words").ids
inputs = np.full((1, facts["length"]), facts["pad"])
inputs[0, : len(ids)] = ids
"""
ASK = f"""(probabilities,) = session.run(["probabilities"], {{"{INPUT}": inputs}})[0]
"""
ONE = """for k in probabilities.argsort()[::-1][:5]:
    print(f"{facts['classes'][k]}: {probabilities[k]:.3f}")
"""
DENSE = """mask = probabilities.argmax(0)  # the class of every pixel
for k in np.unique(mask):
    print(f"{facts['classes'][k]}: {(mask == k).mean():.3f} of the image")
"""


@dataclass(frozen=True)
class Origin:
    """Where a student comes from: its `network`, its `teacher`, its row `described`, and the sources that it `learned` from.

    `domain` is that of in-domain examples; `seeds` are the headline scores of its row by seed; `tested` says on what, and `dense`
    whether each pixel has an answer; `counted` whether the headline is a share of examples.
    """

    network: str
    teacher: str
    described: str
    learned: Sequence[dict[str, Any]]
    domain: dict[str, Any] | None
    seeds: Sequence[float]
    tested: str
    dense: bool
    counted: bool


def card(
    facts: dict[str, Any],
    scores: dict[str, Any],
    teacher: dict[str, Any],
    line: dict[str, Any],
    origin: Origin,
    columns: dict[str, Column],
) -> str:
    """README.md of a student: `facts` are its files' metadata, `scores` and `teacher` what `evaluate` found of both networks.

    `line` is what `export` measured of the files, `columns` what scores are called.
    """
    headline, classes = line["score"], facts["classes"]
    front: dict[str, Any] = {"library_name": "onnx", "tags": ["knowledge-distillation", facts["row"]]}
    if facts["kind"] in PIPELINES:
        front["pipeline_tag"] = PIPELINES[facts["kind"]]
    if headline in METRICS:
        front["metrics"] = [METRICS[headline]]
    texts, alone = "length" in facts, f'torch.export.load("{PROGRAM}").module()(inputs)'
    shown = ", ".join(f"`{name}`" for name in classes[:20]) + (", ..." if len(classes) > 20 else "")
    sources = "; ".join(map(_source, origin.learned)) or "none; the method makes what it learns from"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {facts['task']}-{facts['row']}-{facts['seed']}",
        f"A small network, `{origin.network}` {line['params']:,} parameters. It tells {len(classes)} classes apart: {shown}.",
        "## How to run it",
        f"It takes {_takes(facts)}. It needs `onnxruntime`, `numpy` and {'`tokenizers`' if texts else '`pillow`'} alone:",
        f"```python\n{TEXTS if texts else IMAGES}{ASK}{DENSE if origin.dense else ONE}```",
        f"`{PROGRAM}` is the same for PyTorch: `{alone}` gives `logits` and `probabilities`.",
        "## How good it is",
        *([] if headline in METRICS else [UNMEASURED]),
        _table(scores, teacher, line, columns),
        " ".join(_said(scores, line, origin, columns[headline][0])),
        "## How it was made",
        f"- **Row**: `{facts['row']}`. {origin.described}",
        f"- **Teacher**: {origin.teacher}.",
        f"- **What it learned from**: {sources}.",
        f"- **Examples of the domain**: {_source(origin.domain) if origin.domain else 'none were at hand'}.",
        f"- **Seed**: {facts['seed']}. Revision {scores['made']['revision']}, on {scores['made']['device']}.",
        "## What it is for, and what not",
        "It answers with one of its classes whatever it is shown. Where it learned from a teacher, it has the teacher's errors "
        "and more. Its probabilities were not calibrated. Try it on your own data before you rely on it.",
    ]
    if scores["made"]["scale"] == "smoke":
        parts.insert(2, "**Made at smoke scale: no number here means anything.**")
    return "\n\n".join(parts).replace(".\n\n- ", ".\n- ") + "\n"


def _takes(facts: dict[str, Any]) -> str:
    if "length" in facts:
        return f"ids of up to {facts['length']} tokens, by `tokenizer.json`"
    grey = "grey" if facts["mode"] == "L" else "RGB"
    return f"{grey} images of {facts['height']} x {facts['width']} pixels, from 0 to 1; normalisation is inside"


def _table(scores: dict[str, Any], teacher: dict[str, Any], line: dict[str, Any], columns: dict[str, Column]) -> str:
    lines = ["| | student | teacher |", "|---|--:|--:|"]
    pairs = [*columns.items(), ("params", ("parameters", None)), ("ms", ("ms in PyTorch, one input on one CPU thread", 2))]
    for key, (title, digits) in pairs:
        if key in scores:
            theirs = number(teacher.get(key, float("nan")), digits)
            lines.append(f"| {title} | {number(scores[key], digits)} | {theirs} |")
    lines.append(f"| ms of {ONNX} | {line['onnx_ms']:.2f} | |")
    lines.append(f"| KB of {ONNX}, {PROGRAM} | {line['onnx_kb']:,.0f}, {line['program_kb']:,.0f} | |")
    return "\n".join(lines)


def _said(scores: dict[str, Any], line: dict[str, Any], origin: Origin, title: str) -> list[str]:
    """What the numbers are of, and what their intervals cover."""
    value, n = scores[line["score"]], scores["tested"]
    said = [f"Measured on {n:,} examples of {origin.tested}, after the last step."]
    if origin.counted:
        low, high = binomtest(round(value / 100 * n), n).proportion_ci(method="wilson")
        said.append(f"By so many examples, {title} lies between {100 * low:.1f} and {100 * high:.1f} (95 %).")
    if len(origin.seeds) > 1:
        mean = sum(origin.seeds) / len(origin.seeds)
        said.append(
            f"The mean over {len(origin.seeds)} seeds is {mean:.2f} ± {half_interval(origin.seeds):.2f} (95 %). That interval "
            "covers the student's seed alone, not another teacher, split or pool."
        )
    said.append(
        f"On {line['compared']:,} test examples, {ONNX} answers as the network that it was made of in "
        f"{100 * line['onnx_same']:.2f} % (logits differ by {line['onnx_difference']:.1e} at most), {PROGRAM} in "
        f"{100 * line['program_same']:.2f} % ({line['program_difference']:.1e})."
    )
    return said


def _source(content: dict[str, Any]) -> str:
    """A source as the task says it."""
    said = {key: value for key, value in content.items() if value not in (None, [], {}, "")}
    return f"`{yaml.safe_dump(said, default_flow_style=True, width=10**6).strip()}`"
