"""All that the catalogue resolves to, held against a digest of each task: a value that moves changes one."""

import hashlib
import json
from pathlib import Path

from stages import methods
from stages.jobs.setup import data_of
from stages.kinds import FOLDER
from stages.settings import params
from stages.support.plugins import plugin
from tests.clones import REPOSITORY

FILE = Path(__file__).parents[1] / "fixtures" / "resolved.json"


def resolved():
    """Task -> digest of its section and of the sections of all rows that serve it."""
    settings, found = params.load(REPOSITORY / "params.yaml"), {}
    for name in sorted(settings.catalogue.tasks):
        task = settings.task(name)
        has = plugin(FOLDER, task.kind, "Kind", "kind").has
        rows = {row: methods.method_class(settings, row) for row in sorted(settings.rows)}
        served = [row for row, of in rows.items() if of.of_kind <= has and of.sees <= data_of(task)]
        sections = {row: methods.section(settings, row, name).model_dump(mode="json") for row in served}
        found[name] = digest([task.model_dump(mode="json"), sections])
    return found


def digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def test_no_value_of_the_catalogue_changed_unseen():
    """Where one is to change: `python -m tests.settings.test_catalogue` writes the file anew, and its diff names the tasks."""
    assert resolved() == json.loads(FILE.read_text())


if __name__ == "__main__":
    FILE.write_text(json.dumps(resolved(), indent=1) + "\n")
