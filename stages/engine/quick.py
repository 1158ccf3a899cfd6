"""A frozen network made quicker where nobody looks inside and no gradient is wanted: folded, cast once, compiled if asked."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)  # what autocast runs in bf16
CLOSE = 1e-3  # of the largest logit: how far a folded network's may be, in full precision
Net = Callable[[Tensor], Tensor]


def quick(net: nn.Module, example: Tensor, bf16: bool, compiled: bool) -> Net:
    """A copy in eval mode: batch normalisation that follows a convolution is part of it and, for bf16 autocast, weights are cast.

    Where a network cannot be traced, or its trace does not answer `example` (B, ...) as it does, nothing is folded. Where it
    cannot be compiled, a line says so, and it stays as it is.
    """
    found = _folded(copy.deepcopy(net).eval(), example)
    for module in found.modules():
        if bf16 and isinstance(module, CAST):
            module.to(torch.bfloat16)
    found = found.to(memory_format=torch.channels_last)
    return _compiled(found, example) if compiled else found


def _folded(net: nn.Module, example: Tensor) -> nn.Module:
    with torch.no_grad(), torch.autocast(example.device.type, enabled=False):
        expected = net(example)
        try:
            found = fold(net)
            answer = found(example)
        except Exception:  # whatever a trace of somebody's network meets: it only saves time
            return net
        return found if (answer - expected).abs().max() <= CLOSE * expected.abs().max() else net


def fold(net: nn.Module) -> fx.GraphModule:
    """A trace of `net`, in eval mode, whose batch normalisations are part of the convolutions whose outputs they alone see."""
    traced = fx.symbolic_trace(net)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(norm := modules[node.target], nn.BatchNorm2d):
            continue
        source = node.args[0]
        if source.op != "call_module" or len(source.users) > 1 or not isinstance(modules[source.target], nn.Conv2d):
            continue
        parent, _, name = source.target.rpartition(".")
        setattr(traced.get_submodule(parent), name, fuse_conv_bn_eval(modules[source.target], norm))
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _compiled(net: nn.Module, example: Tensor) -> Net:
    """By torch.compile with its constants frozen, for batches of any size; one compilation, of seconds to half a minute."""
    from torch._inductor import config

    config.freezing = True
    try:
        found: Net = torch.compile(net, dynamic=True)
        with torch.no_grad():
            found(example)
    except Exception as error:  # no C++ compiler, or a network that it cannot take
        print(f"run.compile: the teacher is not compiled ({str(error).splitlines()[0]}); it runs as it is", flush=True)
        return net
    return found
