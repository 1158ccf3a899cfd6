"""Networks of Hugging Face's library, encoders of texts and networks for images; it is in the group `text`."""

import inspect
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from stages.networks.configuration import Configuration, read_config
from stages.support.errors import UserError
from stages.support.extras import optional
from stages.support.files import CONFIG, OF_FOLDERS, PREPROCESSOR

TEXTS = None  # and images
FORMS = {r"huggingface(?:_(\d+))?": "huggingface or huggingface_LAYERS"}


def build(match: re.Match[str], classes: int, form: Any, model: dict[str, Any] | None = None) -> nn.Module:
    """What was imported, by its own configuration: a network for images, an encoder of texts, or one with so many layers.

    Of an encoder the configuration is `form["model"]`, of a network for images `model`. Raises ValueError where there is none.
    """
    texts = isinstance(form, dict)
    if not (said := form.get("model") if texts else model):
        what = "bert_LAYERS_WIDTH" if texts else "torchvision.NAME or a network of ours"
        raise ValueError(f"the teacher was not imported from Hugging Face; write {what}")
    # Whatever precision it was saved in: students are trained in full.
    model = {key: value for key, value in configured(match, said).items() if key not in ("dtype", "torch_dtype")}
    if "model_type" not in model:
        raise ValueError("its config.json names no `model_type`; add it (bert, vit, ...)")
    config = library().AutoConfig.for_model(model.pop("model_type"), **model)
    config.num_labels = classes
    if not texts:
        return Vision(config, any("Segmentation" in name for name in said.get("architectures") or []))
    return Encoder(config, form)


def configured(match: re.Match[str], model: dict[str, Any]) -> dict[str, Any]:
    """The configuration `model` of one with as many layers as the name says."""
    return {**model, "num_hidden_layers": int(match[1])} if match[1] else model


def library() -> Any:
    """`transformers`; raises UserError where it is not installed."""
    return optional("transformers", "text")


def configuration(path: Path, match: re.Match[str]) -> Configuration:
    """What config.json and preprocessor_config.json beside the weights say of a network for images."""
    file = path.with_name(CONFIG)
    model = read_config(file)
    beside = path.with_name(PREPROCESSOR)
    shown = read_config(beside) if beside.exists() else {}
    plain = shown.get("do_normalize", True) is False or not shown.get("image_mean")
    size = (shown.get("crop_size") if shown.get("do_center_crop") else None) or shown.get("size") or model.get("image_size")
    named = model.get("id2label") or {}
    names = tuple(named[key] for key in sorted(named, key=int))
    return Configuration(
        mean=[] if plain else shown["image_mean"],
        std=[] if plain else shown["image_std"],
        size=_size(size),
        names=() if any(re.fullmatch(r"LABEL_\d+", name) for name in names) else names,
        outputs=len(names) or model.get("num_labels"),
        model=model,
        origin=str(beside if shown else file),
    )


def load(path: Path, net: Any) -> bool:
    """Fill a network of the library from a folder as the library wrote it, whichever release: old names are its own affair.

    Returns whether it is such a folder. Raises UserError where tensors are missing.
    """
    if path.name not in OF_FOLDERS:
        return False
    said = library().logging.get_verbosity()
    library().logging.set_verbosity_error()
    try:
        found, info = type(net).from_pretrained(
            path.parent, config=net.config, dtype=torch.float32, local_files_only=True, output_loading_info=True,
            ignore_mismatched_sizes=False,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(f"{path.parent} cannot be read ({str(error).splitlines()[0]}); copy the whole folder again") from None
    finally:
        library().logging.set_verbosity(said)
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{path} has no '{missing[0]}' and {len(missing) - 1} more; it is not of the network in {CONFIG}")
    net.load_state_dict(found.state_dict())
    return True


def _size(given: Any) -> tuple[int, int] | None:
    """Height and width, however the library writes them."""
    if isinstance(given, dict):
        side = given.get("shortest_edge")
        return (given["height"], given["width"]) if "height" in given else (side, side) if side else None
    if isinstance(given, int):
        return given, given
    return (int(given[0]), int(given[1])) if given else None


class Vision(nn.Module):
    """A network for images: (B, 3, H, W) -> logits (B, classes), or (B, classes, h, w) of one that labels pixels."""

    wraps = True

    def __init__(self, config: Any, dense: bool):
        super().__init__()
        kind = library().AutoModelForSemanticSegmentation if dense else library().AutoModelForImageClassification
        self.net = kind.from_config(config)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(pixel_values=x).logits
        return logits


class Encoder(nn.Module):
    """A classifier of texts: token ids (B, L), or word embeddings (B, L, d), -> logits (B, classes).

    Embeddings stand where the look-up of words would be; positions, segments, normalisation and dropout come after it. Places of
    padding are [PAD] among ids and zero vectors among embeddings, and are masked.
    """

    wraps = takes_embeddings = True

    def __init__(self, config: Any, form: dict[str, Any]):
        super().__init__()
        self.net = library().AutoModelForSequenceClassification.from_config(config)
        if "inputs_embeds" not in inspect.signature(self.net.forward).parameters:
            raise ValueError(f"a {config.model_type} takes no embeddings as inputs")
        self.pad, self.cls, self.sep, self.mask = (int(form[word]) for word in ("pad", "cls", "sep", "mask"))
        self.register_buffer("pieces", _pieces(form), persistent=False)

    pieces: Tensor  # the ids of all pieces of words

    @property
    def table(self) -> Tensor:
        """The embeddings of all words, (V, d)."""
        found: Tensor = self.net.get_input_embeddings().weight
        return found

    @property
    def hidden(self) -> int:
        """The width of the last layer's states."""
        return int(self.net.config.hidden_size)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.net(**self._given(inputs)).logits
        return logits

    def states(self, inputs: Tensor) -> Tensor:
        """The last layer's hidden states (B, L, hidden)."""
        found: Tensor = self.net.base_model(**self._given(inputs)).last_hidden_state
        return found

    def shallower(self, deep: "Encoder", how: str) -> dict[str, Tensor]:
        """What the stored network starts from: all of a `deep` one but its layers, and as many of these as this one has.

        They are evenly spaced with the last (`spread`), or the `first`. Raises UserError where the deep one has fewer.
        """
        (name, mine), (_, theirs) = self._layers(), deep._layers()
        if len(mine) > len(theirs):
            raise UserError(f"a student of {len(mine)} layers cannot start from a teacher of {len(theirs)}; take fewer layers")
        places = range(len(mine))
        chosen = [(place + 1) * len(theirs) // len(mine) - 1 for place in places] if how == "spread" else places
        state = {key: value for key, value in deep.net.state_dict().items() if not key.startswith(f"{name}.")}
        for place, layer in zip(places, chosen, strict=True):
            state |= {f"{name}.{place}.{key}": value for key, value in theirs[layer].state_dict().items()}
        return state

    def _layers(self) -> tuple[str, nn.ModuleList]:
        """The list of layers, and its name."""
        for name, module in self.net.named_modules():
            if isinstance(module, nn.ModuleList) and len(module) == self.net.config.num_hidden_layers:
                return name, module
        raise UserError(f"a {self.net.config.model_type} has no list of its layers; name the modules to copy instead")

    def _given(self, inputs: Tensor) -> dict[str, Tensor]:
        if inputs.is_floating_point():
            return {"inputs_embeds": inputs, "attention_mask": (inputs != 0).any(2).long()}
        return {"input_ids": inputs, "attention_mask": (inputs != self.pad).long()}


def _pieces(form: dict[str, Any]) -> Tensor:
    known = torch.ones(form["vocabulary"], dtype=torch.bool)
    known[form["special"]] = False
    return known.nonzero().flatten()
