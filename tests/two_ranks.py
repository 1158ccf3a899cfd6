"""Run under torchrun: trains MosaicKD and plain KD for a few steps and checks that all ranks hold the same networks."""

import tempfile
from pathlib import Path

import torch
from torch import distributed

from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import train
from tests.small import dense_method, method

NAMES = ("kd_ood", "mosaickd", "dfq", "cmi", "fast", "crd", "sskd", "odsd", "augkd", "impression")
DENSE = ("mosaickd", "dfad", "odsd")


def tensors(state):
    """All tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        return [state]
    items = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return [tensor for item in items for tensor in tensors(item)]


def main():
    with rt.running("fp32") as runtime, tempfile.TemporaryDirectory() as folder:
        assert runtime.world == 2
        games = {name: method(name, steps=20, runtime=runtime) for name in NAMES}
        games |= {f"dense {name}": dense_method(name, crop=8, runtime=runtime) for name in DENSE}
        for name, game in games.items():
            train(game, runtime, 0, Checkpoint(Path(folder), 1e6, 10**9), dict, name)
            for stream in game.streams.values():
                drawn = stream.next()["rows"]
                seen = [torch.empty_like(drawn) for _ in range(2)]
                distributed.all_gather(seen, drawn)
                assert not set(seen[0].tolist()) & set(seen[1].tolist())
            for memory in game.memories.values():
                for value in tensors(memory.state()):
                    both = [torch.empty_like(value) for _ in range(2)]
                    distributed.all_gather(both, value.contiguous())
                    assert torch.equal(*both), f"{name}: a memory differs between ranks"
            for player in game.players.values():
                for key, value in player.net.state_dict().items():
                    both = [torch.empty_like(value) for _ in range(2)]
                    distributed.all_gather(both, value.contiguous())
                    assert torch.equal(*both), f"{name}: {key} differs between ranks"
            if runtime.rank == 0:
                game.samples(4)  # asked for where the outputs are written, by this rank alone
                print(f"{name}: ranks agree")


if __name__ == "__main__":
    main()
