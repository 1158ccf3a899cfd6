"""A model card in Markdown, with the front matter of Hugging Face: what a student is, how good, and how to run it."""

import math
from typing import Any

import yaml

from stages.networks.shipped import INPUT, ONNX, PROGRAM
from stages.reporting.intervals import half_interval
from stages.reporting.tables import Column, number

PIPELINES = {"classification": "image-classification", "segmentation": "image-segmentation", "text": "text-classification"}
METRICS = {"top1": "accuracy", "miou": "mean_iou"}

IMAGES = f"""import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{ONNX}")
facts = {{key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}}
size = facts["width"], facts["height"]
image = ImageOps.exif_transpose(Image.open("image.png")).convert(facts["mode"])
pixels = np.asarray(ImageOps.fit(image, size, Image.Resampling.BILINEAR), np.float32) / 255
inputs = pixels.reshape(1, size[1], size[0], -1).transpose(0, 3, 1, 2)
"""
RUN = {
    "classification": f"""{IMAGES}(probabilities,) = session.run(["probabilities"], {{"{INPUT}": inputs}})[0]
for k in probabilities.argsort()[::-1][:5]:
    print(f"{{facts['classes'][k]}}: {{probabilities[k]:.3f}}")
""",
    "segmentation": f"""{IMAGES}(probabilities,) = session.run(["probabilities"], {{"{INPUT}": inputs}})[0]
mask = probabilities.argmax(0)  # the class of every pixel
for k in np.unique(mask):
    print(f"{{facts['classes'][k]}}: {{(mask == k).mean():.3f}} of the image")
""",
    "text": f"""import json

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession("{ONNX}")
facts = {{key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}}
ids = Tokenizer.from_file("tokenizer.json").encode("some words").ids
inputs = np.full((1, facts["length"]), facts["pad"])
inputs[0, : len(ids)] = ids
(probabilities,) = session.run(["probabilities"], {{"{INPUT}": inputs}})[0]
for k in probabilities.argsort()[::-1][:5]:
    print(f"{{facts['classes'][k]}}: {{probabilities[k]:.3f}}")
""",
}


def card(
    facts: dict[str, Any], scores: dict[str, Any], costs: dict[str, Any], about: dict[str, Any], columns: dict[str, Column]
) -> str:
    """README.md of a student: `facts` are its files' metadata, `scores` what `evaluate` found, `costs` what its files cost.

    `about` says where it comes from; `columns` how scores are called.
    """
    headline = costs["score"]
    by_labels = headline in METRICS
    front: dict[str, Any] = {
        "library_name": "onnx",
        "pipeline_tag": PIPELINES[facts["kind"]],
        "tags": ["knowledge-distillation", "out-of-domain-distillation", facts["row"]],
    }
    if by_labels:
        front["metrics"] = [METRICS[headline]]
    name, form = f"{facts['task']}-{facts['row']}-{facts['seed']}", facts["kind"]
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {name}",
        f"A student, distilled from a teacher without the data that this was trained on. Network: `{about['student']}`, "
        f"{costs['params']:,} parameters.",
        "## How to run it",
        f"It takes {_takes(facts)}. It needs {_needs(form)}, and nothing of the repository that made it:",
        f"```python\n{RUN[form]}```",
        f'`{PROGRAM}` is the same for PyTorch: `torch.export.load("{PROGRAM}").module()(inputs)` gives a dict with `logits` and '
        "`probabilities`.",
        "## How good it is",
        _scores(scores, costs, about, columns),
        "## How it was made",
        "\n".join(
            [
                f"- **Method**: `{facts['row']}`. {about['described']}",
                f"- **Teacher**: {about['teacher']['params']:,} parameters, weights {about['teacher']['made']['weights']}.",
                f"- **Images that it learned from**: {_source(about['ood'])}.",
                f"- **Images of the domain**: {_source(about['in_domain'])}.",
                f"- **Seed**: {facts['seed']}. Revision {scores['made']['revision']}, on {scores['made']['device']}.",
            ]
        ),
        "## What it is for, and what not",
        f"It tells these {len(facts['classes'])} classes apart: {', '.join(facts['classes'][:20])}"
        + (", ..." if len(facts["classes"]) > 20 else "")
        + ". It answers with one of them whatever it is shown. It learned from its teacher's answers, so it has its teacher's "
        "errors and more. Its probabilities were not calibrated. Try it on your own data before you rely on it."
        + ("" if by_labels else " Nobody has measured its accuracy: no labelled image was there."),
    ]
    return "\n\n".join(parts) + "\n"


def _takes(facts: dict[str, Any]) -> str:
    if "length" in facts:
        return f"ids of up to {facts['length']} tokens, by `tokenizer.json`"
    grey = "grey" if facts["mode"] == "L" else "RGB"
    return f"{grey} images of {facts['height']} x {facts['width']} pixels, from 0 to 1; normalisation is inside"


def _needs(kind: str) -> str:
    return "`onnxruntime`, `numpy` and " + ("`tokenizers`" if kind == "text" else "`pillow`")


def _scores(scores: dict[str, Any], costs: dict[str, Any], about: dict[str, Any], columns: dict[str, Column]) -> str:
    """A table of scores beside the teacher's, and what their intervals cover."""
    headline, n, seeds = costs["score"], about["tested"], [one for one in about["seeds"] if not math.isnan(one)]
    lines = ["| | student | teacher |", "|---|--:|--:|"]
    for key, (title, digits) in columns.items():
        if key in scores:
            guide = about["teacher"].get(key)
            lines.append(f"| {title} | {number(scores[key], digits)} | {'–' if guide is None else number(guide, digits)} |")
    lines += [
        f"| parameters | {costs['params']:,} | {about['teacher']['params']:,} |",
        f"| ms, one input on one CPU thread: PyTorch | {costs['ms']:.2f} | {_ms(about['teacher']['ms'])} |",
        f"| the same: {ONNX} | {costs['onnx_ms']:.2f} | |",
        f"| KB of {ONNX}, {PROGRAM} | {costs['onnx_kb']:,.0f}, {costs['program_kb']:,.0f} | |",
    ]
    said = [f"Measured on {n:,} examples of {about['tested_on']}, after the last step."]
    if headline != "miou":
        share = scores[headline] / 100
        half = 100 * 1.96 * math.sqrt(share * (1 - share) / n)
        said.append(f"By so many examples {columns[headline][0]} is known to ± {half:.1f} points (95 %).")
    if len(seeds) > 1:
        mean = sum(seeds) / len(seeds)
        said.append(
            f"The mean over {len(seeds)} seeds is {mean:.2f} ± {half_interval(seeds):.2f} (95 %). That interval covers the "
            "student's seed alone, not another teacher, split or pool."
        )
    said.append(
        f"On {costs['compared']:,} of these, {ONNX} answers as the network that it was made of in "
        f"{100 * costs['onnx_same']:.2f} % (logits differ by {costs['onnx_difference']:.1e} at most), {PROGRAM} in "
        f"{100 * costs['program_same']:.2f} % ({costs['program_difference']:.1e})."
    )
    return "\n".join(lines) + "\n\n" + " ".join(said)


def _ms(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def _source(content: dict[str, Any] | None) -> str:
    """A source as the task says it."""
    if not content:
        return "none"
    said = {key: value for key, value in content.items() if value not in (None, [], {}, "")}
    return f"`{yaml.safe_dump(said, default_flow_style=True, width=10**6).strip()}`"
