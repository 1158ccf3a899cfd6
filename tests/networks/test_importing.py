"""Files of weights as programs leave them: each becomes the network's own tensors, or a line that says what it is."""

import argparse
import io
import re
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stages.networks.build import build
from stages.networks.files import another_kind
from stages.networks.importing import import_weights
from stages.settings.task import Start
from stages.support.errors import UserError


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build("convnet_4", 5, (3, 16, 16))


def given(net, path, content, **keys):
    """Import `content` into a fresh copy of the network; returns the line and the tensors that it has then."""
    torch.save(content, path)
    fresh = build("convnet_4", 5, (3, 16, 16))
    line = import_weights(fresh, Start(path=str(path), **keys), "key")
    state = net.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items() if "num_batches" not in name)
    return line


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "backbone.", "module.module.", "model._orig_mod."])
def test_a_beginning_that_all_names_share_is_taken_off(net, tmp_path, prefix):
    line = given(net, tmp_path / "w.pt", {prefix + name: value for name, value in net.state_dict().items()})
    assert prefix == "_orig_mod." or f"names without '{prefix.replace('_orig_mod.', '')}'" in line


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "model_ema", "state_dict_ema"])
def test_usual_keys_are_looked_into(net, tmp_path, key):
    assert given(net, tmp_path / "w.pt", {"epoch": 3, key: net.state_dict(), "optimizer": {"lr": 0.1}}) == ""


def test_averaged_weights_are_taken_by_name(net, tmp_path):
    other = {name: value + 1 for name, value in net.state_dict().items()}
    line = given(net, tmp_path / "w.pt", {"state_dict": net.state_dict(), "state_dict_ema": other})
    assert "it has 'state_dict_ema' too" in line
    given(net, tmp_path / "w.pt", {"state_dict": other, "state_dict_ema": net.state_dict()}, key="state_dict_ema")


def test_what_lies_beside_the_network_is_left_out(net, tmp_path):
    lightning = {f"model.{name}": value for name, value in net.state_dict().items()} | {"criterion.weight": torch.ones(5)}
    line = given(net, tmp_path / "w.ckpt", {"state_dict": lightning, "hyper_parameters": argparse.Namespace(lr=0.1)})
    assert "1 tensors beside the network are left out (criterion.weight, ...)" in line


def test_one_of_two_networks_of_a_file_is_named(net, tmp_path):
    both = {
        f"{who}.{name}": value + (who == "student") for name, value in net.state_dict().items() for who in ("student", "teacher")
    }
    with pytest.raises(UserError, match=r"two such networks, '(student|teacher)' and '(student|teacher)'; `key: "):
        given(net, tmp_path / "w.pt", both)
    given(net, tmp_path / "w.pt", both, key="teacher")


def test_counters_of_a_profiler_and_auxiliary_heads_are_left_out(net, tmp_path):
    state = net.state_dict() | {
        "features.0.total_ops": torch.zeros(1),
        "total_params": torch.zeros(1),
        "aux.0.weight": torch.ones(3, 3),
    }
    assert "3 tensors that the network has not are left out (features.0.total_ops, ...)" in given(net, tmp_path / "w.pt", state)
    state = {name: value for name, value in net.state_dict().items() if "num_batches_tracked" not in name}
    assert given(net, tmp_path / "w.pt", state) == ""


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_made_full(tmp_path, half):
    torch.manual_seed(0)
    net = build("convnet_4", 5, (3, 16, 16)).to(half).float()
    state = {name: value.to(half) if value.is_floating_point() else value for name, value in net.state_dict().items()}
    assert "16 made float32" in given(net, tmp_path / "w.pt", state)


def test_what_fits_nowhere_is_shown_with_the_way_out(net, tmp_path):
    state = {**net.state_dict(), "neck.weight": torch.ones(7, 7)}
    with pytest.raises(UserError, match=r"unexpected 'neck.weight'.*`key\.without`"):
        given(net, tmp_path / "w.pt", state)
    given(net, tmp_path / "w.pt", state, without=["neck"])


class _Block(nn.Module):
    """The block of public WRN code: the order of its tensors is ours, the names are not."""

    def __init__(self, a, b, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(a), nn.Conv2d(a, b, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(b), nn.Conv2d(b, b, 3, 1, 1, bias=False)
        if a != b:
            self.convShortcut = nn.Conv2d(a, b, 1, stride, bias=False)

    def forward(self, x):
        out = torch.relu(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(self.conv1(out))))
        return y + (self.convShortcut(out) if hasattr(self, "convShortcut") else x)


class PublicWRN(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        for i, (a, b, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 64, 2)), 1):
            block = nn.Module()
            block.layer = nn.Sequential(_Block(a, b, stride), _Block(b, b, 1))
            self.add_module(f"block{i}", block)
        self.bn1, self.fc = nn.BatchNorm2d(64), nn.Linear(64, classes)

    def forward(self, x):
        x = self.conv1(x)
        for block in (self.block1, self.block2, self.block3):
            x = block.layer(x)
        return self.fc(torch.relu(self.bn1(x)).mean((2, 3)))


def test_public_names_of_wide_residual_networks_are_taken_by_order_and_form(tmp_path):
    torch.manual_seed(0)
    theirs, ours = PublicWRN().eval(), build("wrn16_1", 10, (3, 32, 32)).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    torch.save({"model": {f"module.{name}": value for name, value in theirs.state_dict().items()}}, path := tmp_path / "w.pth")
    line = import_weights(ours, Start(path=str(path)), "key")
    assert "taken by order and form (module.conv1.weight is stem.weight, ...)" in line
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images))


def test_other_orders_of_forms_are_refused(tmp_path):
    state = dict(reversed(build("wrn16_1", 10, (3, 32, 32)).state_dict().items()))
    torch.save({f"x{i}": value for i, value in enumerate(state.values())}, path := tmp_path / "w.pth")
    with pytest.raises(UserError, match="does not fit the network"):
        import_weights(build("wrn16_1", 10, (3, 32, 32)), Start(path=str(path)), "key")


def exported(path):
    torch.export.save(torch.export.export(nn.Linear(2, 2).eval(), (torch.zeros(1, 2),)), path)


def scripted(path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("w.pt", exported, "a program of torch.export: give it as `exported`"),
        ("w.pt", scripted, "a TorchScript program"),
        ("w.pt", zipped, "a zip archive without tensors"),
        ("w.onnx", lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch"), "a network of ONNX: give it as `onnx`"),
        (
            "w.pt",
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
            "a pointer of Git LFS",
        ),
        ("w.pt", lambda path: path.write_text("<!DOCTYPE html><html>Sign in</html>"), "a web page"),
        ("w.pt", lambda path: path.write_bytes(b""), "empty"),
        ("w.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "HDF5"),
        ("w.gz", lambda path: path.write_bytes(b"\x1f\x8b\x08\x00"), "a compressed archive"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, name, make, said):
    make(path := tmp_path / name)
    assert another_kind(path).startswith(said) or said in another_kind(path)
    with pytest.raises(UserError, match=re.escape(f"{path} is ")):
        import_weights(nn.Linear(2, 2), Start(path=str(path)), "key")


class Holder:
    """What a whole network saved by pickle is, for who must not run it."""


def test_python_objects_are_refused_by_name_and_never_by_torchs_own_advice(net, tmp_path):
    torch.save({"model": Holder()}, path := tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"holds Python objects \(.*Holder\), which may run code") as error:
        import_weights(net, Start(path=str(path)), "key")
    assert "weights_only" not in str(error.value)


def test_harmless_objects_beside_tensors_are_read(net, tmp_path):
    given(net, tmp_path / "w.pt", {"state_dict": net.state_dict(), "best": np.float64(0.9), "args": argparse.Namespace(lr=1)})


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors_and_files_without_tensors_are_named(net, tmp_path):
    state = {name: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8) for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match="holds quantised tensors"):
        given(net, tmp_path / "w.pt", state)
    with pytest.raises(UserError, match=r"its keys are epoch, weights_of_it: name the right one, `key\.key`"):
        given(net, tmp_path / "w.pt", {"epoch": 3, "weights_of_it": {"a": 1}})
    with pytest.raises(UserError, match="but a list"):
        given(net, tmp_path / "w.pt", [1, 2])


def test_safetensors_are_read_as_well(net, tmp_path):
    save_file(net.state_dict(), path := tmp_path / "w.safetensors")
    assert import_weights(build("convnet_4", 5, (3, 16, 16)), Start(path=str(path)), "key") == ""
    path.write_bytes(io.BytesIO(b"12345678 no tensors").getvalue())
    with pytest.raises(UserError, match="cannot be read as a safetensors"):
        import_weights(net, Start(path=str(path)), "key")
