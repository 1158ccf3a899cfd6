"""`dvc repro` with several stages at a time: rows beside each other, as far as what they depend on lets them.

DVC does the work, one process a stage, so dvc.lock and all results are those of `dvc repro`. A stage that fails holds up what
depends on it and nothing else. Not a stage.
Usage: python -m stages.tools.repro [-j N] [TARGET ...]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, Any

from stages.support.errors import ANY, UserError, run_script
from stages.support.progress import progress

DVC = (sys.executable, "-m", "dvc")
FIRST = "plan"  # writes the files on which all others depend
SHOWN = 15  # last lines of a stage that failed
LOUD = ("look here: ", "warning: ")  # what a stage that went well says that nobody should miss
PAUSE = 0.1  # seconds between two looks at what runs


@dataclass
class Running:
    """DVC at work on a stage, since when, and where it writes."""

    process: subprocess.Popen[bytes]
    begin: float
    log: IO[bytes]


def main(*words: str) -> None:
    """Bring all stages, or the targets and what they need, up to date; raises UserError where a stage failed."""
    parser = argparse.ArgumentParser("python -m stages.tools.repro", description="`dvc repro`, several stages at a time")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="stages at a time (default: the cores)")
    parser.add_argument("targets", nargs="*", help="stages of dvc.yaml (default: all)")
    asked = parser.parse_args(words)
    if asked.jobs < 1:
        parser.error("-j is 1 or more")
    needs = order(_dvc("dag", "--dot", *asked.targets))
    if FIRST in needs:
        print(_dvc("--wait-for-lock", "repro", "--single-item", FIRST).strip())
    stale = set(json.loads(_dvc("status", "--json", *asked.targets)))
    if failed := _run(needs, stale, asked.jobs):
        raise UserError(
            f"{', '.join(sorted(failed))} failed, so {len(behind(failed, needs))} further stages did not run; mend what it says "
            "above and start again: what is done stays done"
        )


def order(dot: str) -> dict[str, set[str]]:
    """By stage those that it needs, out of a graph as `dvc dag --dot` writes it."""
    needs: dict[str, set[str]] = {name: set() for name in re.findall(r'^"([^"]+)";$', dot, re.MULTILINE)}
    for above, below in re.findall(r'^"([^"]+)" -> "([^"]+)";$', dot, re.MULTILINE):
        needs[below].add(above)
    return needs


def behind(stages: set[str], needs: dict[str, set[str]]) -> set[str]:
    """What needs one of `stages`, however far below."""
    found = set(stages)
    while more := {stage for stage, above in needs.items() if above & found} - found:
        found |= more
    return found - stages


def _run(needs: dict[str, set[str]], stale: set[str], jobs: int) -> set[str]:
    """Run what is stale and what is below it, `jobs` at a time; returns what failed."""
    left = [stage for stage in needs if stage != FIRST]
    made, failed, running, shown = set[str](), set[str](), dict[str, Running](), ""
    with progress(range(len(left)), "stages") as bar:
        try:
            while left or running:
                for stage in [stage for stage in left if not needs[stage] & {*left, *running}]:
                    if stage not in stale and not needs[stage] & made:
                        left.remove(stage)
                        bar.update()
                    elif len(running) < jobs:
                        left.remove(stage)
                        running[stage] = _start(stage, jobs)
                if (names := ", ".join(running)) != shown or sys.stderr.isatty():
                    bar.set_postfix_str(shown := names)
                time.sleep(PAUSE)
                for stage in [stage for stage, one in running.items() if one.process.poll() is not None]:
                    bar.update()
                    if _ended(stage, running.pop(stage), bar):
                        made.add(stage)
                    else:
                        failed.add(stage)
                        waiting = behind({stage}, needs)
                        left = [other for other in left if other not in waiting]
        except KeyboardInterrupt:
            for one in running.values():  # Ctrl-C reached them too; they save what they do
                one.process.wait()
            raise
    return failed


def _start(stage: str, jobs: int) -> Running:
    threads = max(1, (os.cpu_count() or 1) // jobs)  # threads that fight for a core are many times slower
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `_ended`
    command = (*DVC, "--wait-for-lock", "repro", "--quiet", "--single-item", stage)
    env = {"OMP_THREAD_LIMIT": str(threads), **os.environ}
    return Running(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env), time.monotonic(), log)


def _ended(stage: str, one: Running, bar: Any) -> bool:
    """Say how a stage ended, with its last lines where it failed, or its warnings; whether it went well."""
    good = one.process.returncode == 0
    bar.write(f"{stage}: {'done in' if good else 'failed after'} {time.monotonic() - one.begin:.0f} s", file=sys.stdout)
    with one.log:
        one.log.seek(0)
        lines = [line for line in one.log.read().decode(errors="replace").splitlines() if line.strip()]
    loud = [line for line in lines if any(word in line for word in LOUD)]
    if shown := loud if good else lines[-SHOWN:]:
        bar.write("\n".join(f"    {line}" for line in shown), file=sys.stdout)
    return good


def _dvc(*words: str) -> str:
    """What DVC answers; raises UserError with its last lines where it fails."""
    done = subprocess.run([*DVC, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise UserError("\n".join([f"`dvc {' '.join(words)}` failed:", *lines[-SHOWN:]]))
    return done.stdout


if __name__ == "__main__":
    run_script(main, ANY)
