"""Every method that is not refused to a teacher of another make runs with it."""

import pytest
import torch

from stages.engine.teacher import Teacher
from stages.jobs.requirements import why_not
from stages.jobs.setup import DATA
from stages.kinds.classification import Kind
from stages.networks.adapter import Adapter, Interface
from stages.networks.build import build
from stages.networks.exported import Exported
from stages.networks.onnx import Onnx
from stages.networks.torchscript import TorchScript
from stages.tools.pages import MAKES
from tests.small import METHODS, SMALL, method_class, network, setting


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network as a program of torch.export and of TorchScript, and in ONNX's format, for batches of any size."""
    folder, net = tmp_path_factory.mktemp("teacher"), network("convnet_8").eval()
    any_size = ({0: torch.export.Dim("n", min=1)},)
    example = (torch.zeros(2, 1, 16, 16),)
    torch.export.save(torch.export.export(net, example, dynamic_shapes=any_size), folder / "teacher.pt2")
    torch.jit.trace(net, example).save(folder / "teacher.pt")
    if pytest.importorskip("onnxruntime"):
        torch.onnx.export(net, example, dynamo=True, dynamic_shapes=any_size, verbose=False).save(str(folder / "teacher.onnx"))
    return folder


def program(files, make):
    net = {"pt2": Exported, "pt": lambda: TorchScript(1), "onnx": Onnx}[make]()
    net.read(files / f"teacher.{make}")
    return Adapter(net, Interface())


def without_batch_norm():
    return Adapter(build("vit_1_32", 10, (1, 16, 16)), Interface())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", ["pt2", "pt", "onnx", "vit"])
def test_methods_that_are_not_refused_run(files, make):
    net = without_batch_norm() if make == "vit" else program(files, make)
    given = setting(teacher=Teacher(net))
    others, programs = "others without (ViT, ConvNeXt)", "`exported` (.pt2), `torchscript`"
    named = {"pt2": programs, "pt": programs, "onnx": "`onnx`", "vit": others}[make]
    assert given.teacher.can == MAKES[named]
    ran = []
    for name in METHODS:
        of = method_class(name)
        params = of.Params(**SMALL.get(name, {}))
        if why_not(of, params, Kind.has, given.teacher.can, DATA) is None:
            of(setting(teacher=Teacher(net)), params).step()
            ran.append(name)
    assert {"kd_ood", "kd_ood_strong", "dfnd"} <= set(ran)
    assert ("mosaickd" in ran) == (make != "onnx")


def test_the_rows_of_makes_are_what_teachers_can():
    assert Teacher(network("wrn10_1")).can == MAKES["ours, torchvision's ResNets"]
    assert Teacher(network("torchvision.mobilenet_v3_small", 3, 32)).can == MAKES["others with batch norm"]
