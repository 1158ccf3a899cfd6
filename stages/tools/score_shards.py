"""Score a part of a task's shards, so that several machines share the work; `curate` then finds the scores and goes on.

They need one file system, and what `dvc repro train_teacher@TASK` leaves. What is scored already is not scored again.
Usage: python -m stages.tools.score_shards TASK K/N   (part K of N, counted from 1)
"""

import re

from stages.jobs.job import open_job
from stages.jobs.sharded import Shards
from stages.support.errors import UserError, run_script


def main(name: str, part: str) -> None:
    """Write the scores of every N-th shard, from the K-th on."""
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"a part is K/N, such as 1/8 to 8/8, not '{part}'")
    Shards(open_job("curate", name)).score(slice(int(found[1]) - 1, None, int(found[2])))


if __name__ == "__main__":
    run_script(main, "task", "part")
