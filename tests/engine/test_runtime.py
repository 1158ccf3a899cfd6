"""How many threads and which precision a run takes."""

import os
import subprocess
import sys

import pytest
import torch

from stages.engine import runtime as rt

SMALL, BIG = rt.LARGE - 1, 10**9


@pytest.fixture
def free(monkeypatch):
    """Nobody says anything of threads; afterwards as before."""
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    yield monkeypatch
    torch.set_num_threads(before)


def test_small_networks_take_one_thread_and_larger_ones_what_there_is(free):
    free.setattr(os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    assert [rt.threads_for(macs) for macs in (0, SMALL, rt.LARGE, BIG)] == [1, 1, 3, 3]
    free.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert [rt.threads_for(macs) for macs in (SMALL, BIG)] == [1, 4]
    free.setenv("OMP_THREAD_LIMIT", "2")
    assert [rt.threads_for(macs) for macs in (SMALL, BIG)] == [1, 2]


def test_what_is_asked_wins(free):
    assert rt.threads_for(SMALL, 3) == 3
    free.setenv("OMP_NUM_THREADS", "2")  # which torch has read when it was loaded
    assert rt.threads_for(SMALL) == rt.threads_for(BIG) == torch.get_num_threads()
    assert rt.threads_for(SMALL, 3) == 3


def test_a_run_computes_with_that_many(free):
    rt.start("fp32", macs=SMALL)
    assert torch.get_num_threads() == 1


def test_wide_networks_are_in_bf16_where_the_processor_is_made_for_it(free):
    able = torch.cpu._is_avx512_bf16_supported() or torch.cuda.is_available()
    assert rt.start("auto", macs=BIG).bf16 == able
    assert rt.start("auto", macs=rt.WIDE - 1).bf16 == torch.cuda.is_available()
    assert not rt.start("fp32", macs=BIG).bf16
    assert rt.start("bf16", macs=0).bf16


@pytest.mark.parametrize(
    ("said", "found"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None")],
)
def test_waiting_threads_give_way_unless_somebody_says_otherwise(said, found):
    code = "import stages, os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    plain = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=plain | said, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found, "False"]


@pytest.mark.parametrize("left", ["2", ""])
def test_a_number_of_processes_that_torchrun_did_not_set_is_said_and_left_aside(monkeypatch, capsys, left):
    for name, value in (("WORLD_SIZE", left), ("RANK", "0"), ("MASTER_ADDR", "localhost")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    runtime = rt.start("fp32")
    assert (runtime.rank, runtime.world) == (0, 1)
    assert f"WORLD_SIZE is '{left}', and torchrun did not start this process" in capsys.readouterr().out
