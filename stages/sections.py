"""The base of every section of params.yaml: typed, frozen, and unforgiving of unknown keys."""

import difflib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A checked section. Unknown keys are refused with the nearest known one; no value is coerced from another type."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    def smoke(self) -> Self:
        """The same section shrunk to seconds; sections that cost little stay as they are."""
        return self

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    near = difflib.get_close_matches(str(key), cls.model_fields, 1)
                    hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(cls.model_fields) or 'none'}"
                    raise ValueError(f"unknown key '{key}'; {hint}")
        return values
