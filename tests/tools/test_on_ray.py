"""A command on a Ray cluster: what it says, how it ends, and what becomes of it when its machine is lost or nobody wants it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.clones import REPOSITORY

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

JOB = """
import pathlib, signal, sys, time
begun = pathlib.Path(sys.argv[1])
def saved(*_):
    begun.with_name("saved").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, saved)
first = not begun.exists()
print("begin", flush=True)
begun.touch()
while first: # until its machine is lost, or it is ended
    time.sleep(0.1)
print("a bar", end="\\r", flush=True)
print("end")
sys.exit(5)
"""


@pytest.fixture(scope="module")
def cluster():
    """A head without cores, to which machines come and from which they go."""
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield found
    found.shutdown()


def handed(cluster, *words):
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    command = [sys.executable, "-m", "stages.tools.on_ray", *words]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_a_command_whose_machine_is_lost_starts_again_elsewhere(cluster, tmp_path):
    first = cluster.add_node(num_cpus=1)
    with handed(cluster, "-c", JOB, str(tmp_path / "begun")) as asked:
        assert asked.stdout.readline() == "begin\n"
        cluster.remove_node(first, allow_graceful=False)
        second = cluster.add_node(num_cpus=1)
        said = asked.stdout.read().splitlines()
    assert "its machine is lost" in "\n".join(said)
    assert [line for line in said if line in ("begin", "a bar", "end")] == ["begin", "a bar", "end"]
    assert asked.returncode == 5
    cluster.remove_node(second)


def test_a_command_that_nobody_wants_any_more_is_asked_to_end(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1)
    with handed(cluster, "-c", JOB, str(tmp_path / "begun")) as asked:
        assert asked.stdout.readline() == "begin\n"
        asked.send_signal(signal.SIGTERM)
    assert asked.returncode != 0
    assert (tmp_path / "saved").exists()
    cluster.remove_node(node)
