"""From what is known of every run to the tables that people read."""

import math
from collections import Counter
from typing import Any

import pandas as pd

from stages.reporting.intervals import half_interval
from stages.settings.params import TEACHER

Column = tuple[str, int | None]  # title; digits after the point, None for whole numbers with commas

# Beside the scores of the kind.
SUMMARY: dict[str, Column] = {"ci95": ("± 95 %", 2), "n": ("n", None), "gain": ("gain", 1)}
NETWORK: dict[str, Column] = {"params": ("parameters", None), "macs": ("MACs", None), "kb": ("KB", 0), "ms": ("ms", 2)}
LIKENESS: dict[str, Column] = {"fd": ("FD", 2), "spread": ("spread %", 0)}
# Of several teachers: where it is known whose image it is; and what common feature learning finds of its space.
PARTS: dict[str, Column] = {"known": ("task known %", 2), **{f"part{i}": (f"part {i} %", 2) for i in range(1, 10)}}
FOUND: dict[str, Column] = {"mmd": ("MMD", 3), "apart": ("apart", 3), "r2": ("R²", 2)}
COST: dict[str, Column] = {
    "steps": ("S steps", None),
    "images": ("images, k", 1),
    "forwards": ("T fwd, k", 1),
    "backwards": ("T bwd, k", 1),
    "synthesis_s": ("synth. s", 1),
    "distillation_s": ("distil. s", 1),
}
SECONDS = ("synthesis_s", "distillation_s")
THOUSANDS = ("images", "forwards", "backwards")
# Gains are points over these rows: blind distillation, and on the student's domain learning from its labels alone.
BASELINE, ALONE = "kd_ood", "supervised_student_domain"
UPPER_BOUND, RESCHEDULED, OLDER, RECODED = "†", "§", "‡", "°"
MARKS = {
    UPPER_BOUND: "upper bound: sees the teacher's own training images",
    RESCHEDULED: "a schedule of its own, said below its table",
    OLDER: "made with other parameters than now, or of another teacher, or before this was told from code",
    RECODED: "made with the parameters of now by other code",
}
LEGEND = (  # what is said below all tables, a line each
    "± 95 %: a t-interval over n seeds of the student. Teacher, split and pool are one draw, which it does not cover. "
    "The teacher and a row of one seed have none.",
    "A test split is a sample too: by 1,000 images a score of 50 % is known to 3 points, by 100 to 10.",
    "gain: points over `kd_ood`, or on a student's domain over `supervised_student_domain`, over the seeds that both have.",
    "NLL: negative log-likelihood of the labels, in nats. ECE: expected calibration error, how far confidence is from accuracy.",
    "pool: no example of the domain was there. Students are compared with the teacher on a part of the pool that was held out.",
    "ms: one image on a CPU thread, one network of each make.",
    "FD: Fréchet distance between a method's images and the in-domain validation split, in the teacher's penultimate features "
    "(not Inception's). The teacher's is of as many of its training images, the least that a method could reach. "
    "A set that has no more images than features has none.",
    "spread: mean distance of two images' features, in % of the in-domain one.",
    "S steps, images, T fwd, T bwd: the cost of one run. Steps of the student; thousands of synthetic images made for it; "
    "thousands of images through the teacher, forward and backward.",
    "synth. s, distil. s: seconds of synthesis and of distillation, on the device that made most of the table.",
    *(f"{mark} {what}." for mark, what in MARKS.items()),
    "n/a: the method does not run there.",
)
NONE = "–"
INVERTED = (
    "**This is no accuracy.** Students were compared with the teacher on images that were computed from the teacher for that "
    "alone, by DeepInversion. docs/judging.md says how well that ranks."
)
UNRANKED = (
    "**This is no accuracy, and no ranking.** Students were compared with the teacher on images like those that they learned "
    "from. Rows that are close here may be far apart on real images. With 400 labelled images scores are known to 5 points."
)
UNMEASURED = {"agree_inverted": INVERTED, "agree_pool": UNRANKED}  # what is said above a table that is compared by this score
SMOKE = "**Smoke scale: everything was shrunk to seconds, no number of {rows} means anything.**"


def runs(rows: dict[str, Any], domain: str | None = None) -> pd.DataFrame:
    """One line a run: row, seed and its scores, on the in-domain test split or on that of `domain`."""
    lines = []
    devices = Counter(found["made"].get("device") for known in rows.values() for found in known.get("seeds", {}).values())
    timed = max(devices, key=devices.__getitem__, default=None)  # seconds on several devices have no mean
    for row, known in rows.items():
        for seed, found in known.get("seeds", {}).items():
            scores = found if domain is None else found.get(domain, {})
            numbers = {key: value for key, value in scores.items() if isinstance(value, int | float)}
            if found["made"].get("device") != timed:
                numbers = {key: math.nan if key in SECONDS else value for key, value in numbers.items()}
            if numbers:
                lines.append({"method": row, "seed": int(seed), **numbers})
    return pd.DataFrame(lines)


def summarise(found: pd.DataFrame, headline: str, baseline: str | None = BASELINE) -> pd.DataFrame:
    """Means over seeds in the order of first appearance, with n, half the 95 % t-interval of the headline, and any gain.

    The gain is over the seeds that the row has in common with the `baseline`.
    """
    groups = found.drop(columns="seed").groupby("method", sort=False)
    table = groups.mean()
    table["n"] = groups.size()
    table["ci95"] = [half_interval(list(group[headline])) for _, group in groups]
    if baseline:
        base = found[found["method"] == baseline].set_index("seed")[headline]
        gains = (found[headline] - found["seed"].map(base)).groupby(found["method"], sort=False).mean()
        table["gain"] = gains.where(gains.index != TEACHER)
    return table


def columns(scores: dict[str, Column], headline: str) -> dict[str, Column]:
    """All columns in their order, given those of the kind; the headline is the first."""
    rest = {key: column for key, column in scores.items() if key != headline}
    return {headline: scores[headline], **SUMMARY, **PARTS, **rest, **NETWORK, **LIKENESS, **FOUND, **COST}


def in_words(table: pd.DataFrame, shown: dict[str, Column], names: dict[str, str]) -> tuple[str, pd.DataFrame]:
    """What all students have in common, as a line, and the rest as a table of short numbers.

    `names` says how rows are called, those included that have no runs.
    """
    table = table.reindex(list(names)).assign(
        **{key: table[key].mask(table[key] == 0) / 1000 for key in THOUSANDS if key in table}
    )
    columns = {key: [number(value, digits) for value in table[key]] for key, (_, digits) in shown.items() if key in table}
    students = [i for i, row in enumerate(table.index) if row != TEACHER and not math.isnan(table["n"].iloc[i])]
    text, common = pd.DataFrame({"method": list(names.values())}), []
    for place, (key, values) in enumerate(columns.items()):
        same = {values[i] for i in students}
        if place and len(students) > 1 and len(same) == 1:
            guide = [value for value, row in zip(values, table.index, strict=True) if row == TEACHER]
            own = f" (teacher {guide[0]})" if guide and key != "n" and guide[0] not in {NONE, *same} else ""
            common += [f"{shown[key][0]} {min(same)}{own}"] if same != {NONE} or own else []
        else:
            text[shown[key][0]] = values
    text.loc[[math.isnan(n) for n in table["n"]], text.columns[1]] = "n/a"
    return f"All students: {', '.join(common)}." if common else "", text


def to_markdown(text: pd.DataFrame) -> str:
    """A Markdown table of texts, the first column left, the others right."""
    return str(text.to_markdown(index=False, disable_numparse=True, colalign=["left"] + ["right"] * (len(text.columns) - 1)))


def number(value: float, digits: int | None) -> str:
    """A number as tables show it, a dash where there is none."""
    if math.isnan(value):
        return NONE
    return f"{value:,.0f}" if digits is None else f"{value:.{digits}f}"


def worded(value: Any) -> str:
    """A parameter in words: numbers with commas, a section as its keys and values, nothing as "none"."""
    if isinstance(value, dict):
        return " ".join(f"{key} {worded(inner)}" for key, inner in value.items() if inner) or "none"
    if isinstance(value, list):
        return ", ".join(map(worded, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def cells(table: pd.DataFrame, headline: str, marks: dict[str, list[str]]) -> dict[str, str]:
    """Each row's headline as "mean ± half interval", with its marks."""
    pairs = zip(table.index, table[headline], table["ci95"], strict=True)
    means = {row: number(mean, 2) + ("" if math.isnan(half) else f" ± {half:.2f}") for row, mean, half in pairs}
    return {row: " ".join([mean, *marks[row]]) for row, mean in means.items()}


def beside_each_other(cells: dict[str, dict[str, str]]) -> str:
    """Rows by tasks, for the rows that several tasks have; nothing where there are none."""
    wide = pd.DataFrame(cells)
    wide = wide[wide.notna().sum(axis=1) > 1].dropna(axis=1, how="all").fillna("–").rename_axis(index="method", columns=None)
    return str(wide.to_markdown(disable_numparse=True)) if len(wide) else ""
