"""Run one command on a Ray cluster whose machines share this folder: LAUNCH='python -m stages.tools.on_ray' before `dvc repro`.

What it prints is streamed, and its status is kept. Where its machine is lost it starts again elsewhere, and a training goes on
from its checkpoint. Where this process is ended, the command is asked to end too, and saves.
Usage: python -m stages.tools.on_ray [--num-cpus N] [--num-gpus N] -m MODULE WORD...
"""

import argparse
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from stages.support.errors import ANY, UserError, run_script
from stages.support.extras import optional

WAIT, AGAIN = 60.0, 3  # seconds without a machine until it is said, and how often a command may lose its machine
GENTLE = ("setpriv", "--pdeathsig", "TERM")  # of util-linux: a command whose worker is killed is asked to end


def main(*words: str) -> None:
    """Run the command on whichever machine has room, and exit as it does. Raises UserError where there is no cluster."""
    parser = argparse.ArgumentParser("python -m stages.tools.on_ray", description="Run one command on a Ray cluster")
    parser.add_argument("--num-cpus", type=float, default=1.0, help="cores, and threads, that it takes (default: 1)")
    parser.add_argument("--num-gpus", type=float, default=0.0, help="GPUs that it takes (default: none)")
    asked, command = parser.parse_known_args(words)
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # else `uv run` ships its environment to every worker
    ray = optional("ray", "ray")
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    except ConnectionError:
        raise UserError("there is no Ray cluster here; `ray start --head` begins one, RAY_ADDRESS names another") from None
    task = ray.remote(num_cpus=asked.num_cpus, num_gpus=asked.num_gpus, max_retries=0, num_returns="streaming")(work)
    for _ in range(AGAIN):
        stream = task.remote(command, os.getcwd())
        for number in (signal.SIGTERM, signal.SIGINT):  # an exception that a handler raises may be lost in Ray
            signal.signal(number, lambda *_, stream=stream: ray.cancel(stream))
        try:
            sys.exit(followed(ray, stream))
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            print(f"{' '.join(command)}: its machine is lost ({type(error).__name__}); it starts again", flush=True)
        except ray.exceptions.TaskCancelledError:
            raise UserError(f"{' '.join(command)} was asked to end") from None
    raise UserError(f"{' '.join(command)} lost its machine {AGAIN} times")


def followed(ray: Any, stream: Any) -> int:
    """Print what a command says until it ends; returns its status. Says so where no machine has room for it."""
    if not ray.wait([stream], timeout=WAIT, fetch_local=False)[0]:
        print(f"waiting for a machine with room; all have {ray.cluster_resources()}", flush=True)
    for reference in stream:
        if isinstance(said := ray.get(reference), int):
            return said
        sys.stdout.buffer.write(said)
        sys.stdout.flush()
    return 1


def work(command: list[str], folder: str) -> Iterator[bytes | int]:
    """On the worker: what the command prints, each step of a bar a line, and at last its status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # by which Ray cancels; a cluster begun by nohup ignores it
    gentle = GENTLE if shutil.which(GENTLE[0]) else ()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([*gentle, sys.executable, *command], cwd=folder, **pipes) as child:
        try:
            assert child.stdout
            said = b" "
            while said:
                if select.select([child.stdout], [], [], 0.5)[0]:  # a task that is cancelled hears of it between two steps alone
                    said = os.read(child.stdout.fileno(), 2**16)
                    yield said.replace(b"\r", b"\n")
            yield child.wait()
        finally:
            child.terminate()


if __name__ == "__main__":
    run_script(main, ANY)
