"""Stage `impress`: what a task's teacher remembers, as numbers and pictures (Impression Space, arXiv:2007.05441).

Everything here is of validation images, of the pool and of what methods made; the test split stays closed.
Usage: python -m stages.impress TASK
"""

import time
from typing import Any

import pandas as pd

from stages.engine import runtime as rt
from stages.engine.provenance import provenance
from stages.impressions import measures
from stages.impressions.room import Room, open_room
from stages.jobs.job import open_job
from stages.jobs.teaching import as_template
from stages.reporting import impressions
from stages.support.errors import run_script
from stages.support.files import replacing, replacing_folder


def main(name: str) -> None:
    """Write numbers.csv, tables.md and figures into results/impressions/TASK."""
    job, begun = open_job("impress", name), time.monotonic()
    as_template(job.params, name)
    runtime = job.measuring()
    with replacing_folder(job.places.impressions) as folder:
        room = open_room(job, runtime, folder)
        rt.seed(0)
        found = [measures.by_neighbours(room), measures.decode(room), measures.translate(room)]
        rt.seed(1)
        measures.reconstruct(room)
        measures.synthesise(room)
        measures.relate(room, job.run.runs)
        _write(room, found, provenance(runtime, time.monotonic() - begun))
    print((job.places.impressions / "tables.md").read_text())


def _write(room: Room, found: list[pd.DataFrame], made: dict[str, Any]) -> None:
    counts = {"voters": len(room.gallery), "told": len(room.queries), "decoded": min(measures.DECODED, len(room.queries))}
    facts = {"network": room.blueprint.network, **counts, **{key: made[key] for key in ("revision", "device", "seconds")}}
    with replacing(room.folder / "numbers.csv") as temporary:
        pd.concat(found).to_csv(temporary, index=False, float_format="%.5g")
    with replacing(room.folder / "tables.md") as temporary:
        temporary.write_text(impressions.written(room.name, facts, *found))


if __name__ == "__main__":
    run_script(main, "task")
