"""What runs, chosen outside of params.yaml: for scripts that run stages."""

from pathlib import Path

import yaml

from stages.settings.yaml import Loader
from stages.support.errors import UserError
from stages.support.files import replacing


def seeds(text: str) -> list[int]:
    """Seeds, written with commas between them; raises UserError for anything else."""
    if not all(seed.isdecimal() for seed in text.split(",")):
        raise UserError(f"seeds are whole numbers with commas between them, not '{text}'")
    return list(map(int, text.split(",")))


def choose(source: Path, target: Path, tasks: list[str], methods: list[str], seeds: list[int]) -> None:
    """Write `source`, a params.yaml, to `target` with these in its section `run`, and no impressions of other tasks."""
    content = yaml.load(source.read_text(), Loader)
    content["run"] |= {"tasks": tasks, "methods": methods, "seeds": seeds}
    content.setdefault("impress", {})["tasks"] = []
    with replacing(target) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False))
