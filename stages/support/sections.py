"""The base of every section of parameters: typed, frozen, and unforgiving of unknown keys."""

import re
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from stages.support.errors import UserError
from stages.support.plugins import nearest

Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _word(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        raise ValueError(f"`{value}` is no name: YAML reads no, yes, on, off and null as something else; put it in quotes")
    return str(value) if isinstance(value, int | float) else value


Word = Annotated[str, BeforeValidator(_word)]  # a name in a list, which may look like a number
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A checked section. Unknown keys are refused with the nearest known one; no value is coerced from another type."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    def smoke(self) -> Self:
        """The same section shrunk to seconds; sections that cost little stay as they are."""
        return self

    also: ClassVar[tuple[str, ...]] = ()  # keys that a section turns into its own before it is checked

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key '{key}'; {nearest(str(key), (*cls.model_fields, *cls.also))}")
        return values


def check(model: Any, content: Any, where: str = "", file: str = "") -> Any:
    """`content` as `model`, a section or another type; raises UserError that names the key under `where` and the fix.

    `where` is the name of a section of a task or row; what stands in no task is a whole `file`.
    """
    try:
        return TypeAdapter(model).validate_python(content)
    except ValidationError as error:
        loc, first = _deepest(error, content)
        keys = _keys(loc, content, missing=first["type"] == "missing")
        message = first["msg"].removeprefix("Value error, ")
        if unknown := re.match(r"unknown key '([^']*)'", message):
            keys.append(unknown[1])
        shown = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
        path = ".".join([*filter(None, [where]), *keys]) or "it"
        raise UserError(f"{file and f'{file}: '}{path}: {message[:1].lower()}{message[1:]}{shown}") from None


def _deepest(error: ValidationError, content: Any) -> tuple[tuple[int | str, ...], Any]:
    """Where the first error is and what it says: of a union's, the one that got furthest.

    That of a section chosen by name lies inside a validator's own error.
    """
    first = max(error.errors(), key=lambda one: len(_keys(one["loc"], content, missing=False)))
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, ValidationError):
        loc, deepest = _deepest(inner, first["input"])
        return (*first["loc"], *loc), deepest
    return first["loc"], first


def _keys(loc: tuple[str | int, ...], content: Any, missing: bool) -> list[str]:
    """The keys of `content` in pydantic's path, which also names what it chose of a union; a missing key is the last."""
    keys = []
    for part in loc:
        if part in content if isinstance(content, dict) else isinstance(content, list) and isinstance(part, int):
            content = content[part]
            keys.append(str(part))
    return [*keys, str(loc[-1])] if missing else keys
