"""Sources of examples: one file each, with a section `Source` that is chosen by its key `source`."""

from typing import Annotated, Any

from pydantic import PlainValidator

from stages.support.errors import UserError
from stages.support.plugins import plugin

FOLDER = "stages.datasets.sources"


def _chosen(content: Any) -> Any:
    if not (isinstance(content, dict) and isinstance(content.get("source"), str)):
        raise ValueError("give a `source`, such as {source: folder, path: ...}")
    try:
        found = plugin(FOLDER, content["source"], "Source", "source")
    except UserError as error:
        raise ValueError(str(error)) from None
    return found.model_validate(content)


# A section with `read(form)`, the examples of the training part, and `read_test(form)`, those of the test part or None.
Source = Annotated[Any, PlainValidator(_chosen)]


def names(content: Any) -> set[str]:
    """The names of all sources in a part of params.yaml: those of a mixture's parts too."""
    if isinstance(content, dict):
        own = {content["source"]} if isinstance(content.get("source"), str) else set()
        return own.union(*map(names, content.values()))
    return set().union(*map(names, content)) if isinstance(content, list) else set()
