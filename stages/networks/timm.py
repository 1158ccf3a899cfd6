"""The classifiers of the library timm, which is in the group `timm`: `uv sync --group timm`."""

import re
from pathlib import Path
from typing import Any

from torch import nn

from stages.networks.configuration import Configuration, read_config
from stages.support.extras import optional
from stages.support.files import CONFIG
from stages.support.plugins import nearest

FORMS = {r"timm\.([\w.]+)": "timm.NAME (NAME as in timm.list_models())"}


def build(match: re.Match[str], classes: int, shape: tuple[int, ...], model: dict[str, Any] | None = None) -> nn.Module:
    """The network of that name for images of `shape`; raises ValueError for a name that timm has not."""
    timm, name = optional("timm", "timm"), match[1]
    if not timm.is_model(name):
        raise ValueError(f"timm has no such network; {nearest(name, timm.list_models())}")
    options: dict[str, Any] = {**(model or {}), "num_classes": classes, "in_chans": shape[0]}
    if timm.get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = shape[1:]
    net: nn.Module = timm.create_model(name, pretrained=False, **options)
    return net


def configuration(path: Path, match: re.Match[str]) -> Configuration:
    """What config.json beside the weights says, or timm itself of a network of that name."""
    timm = optional("timm", "timm")
    file = path.with_name(CONFIG)
    said = read_config(file) if file.exists() else {}
    config = said.get("pretrained_cfg") or {}
    known = timm.get_pretrained_cfg(match[1]) if timm.is_model(match[1]) else None
    mean, std = (list(config.get(key) or getattr(known, key, None) or ()) for key in ("mean", "std"))
    size = config.get("input_size") or ()
    return Configuration(
        mean=mean,
        std=std,
        size=tuple(size[1:]) or None,
        names=tuple(config.get("label_names") or ()),
        outputs=said.get("num_classes"),
        model=said.get("model_args"),
        origin=str(file) if said else f"timm's {match[1]}",
    )
