"""YAML as DVC reads it."""

import re
from typing import Any

import yaml


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML reads `1e-3` as a string and takes the last of two equal keys; DVC reads a number and refuses them, and so do we."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """The map of a node; raises YAMLError that names a key which stands there twice."""
        keys = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in keys[:place]:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key '{key.value}' stands there twice")
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        """A whole number; raises YAMLError for one that begins with 0, which YAML takes for octal."""
        if re.fullmatch(r"[-+]?0\d+", node.value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {node.value} begins with 0; put it in quotes if it is a name")
        return super().construct_yaml_int(node)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
