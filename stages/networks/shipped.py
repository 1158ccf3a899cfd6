"""Students that leave this repository: programs of ONNX and of torch.export, which say themselves what they take and give."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.support.errors import UserError
from stages.support.extras import optional

INPUT, OUTPUTS = "inputs", ("logits", "probabilities")
ONNX, PROGRAM = "student.onnx", "student.pt2"
EXTRA = "metadata.json"  # in a program of torch.export, what ONNX has as metadata


class Shipped(nn.Module):
    """Inputs (B, ...) as the network takes them, images in [0, 1] -> its logits (B, K, ...), and their softmax over classes."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        logits = self.net(inputs)
        return dict(zip(OUTPUTS, (logits, logits.softmax(1)), strict=True))


def write(folder: Path, net: nn.Module, example: Tensor, facts: dict[str, Any]) -> None:
    """Write both programs into an empty folder, for batches of any size of inputs like `example` (1, ...).

    `facts` go into their metadata, as JSON.

    Raises UserError where the packages for ONNX are not installed, or the network cannot be exported.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        optional(package, "onnx")
    said = {key: json.dumps(value) for key, value in facts.items()}
    try:
        with torch.no_grad():
            program = torch.export.export(
                Shipped(net), (example.expand(2, *example.shape[1:]),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
            )
            network = torch.onnx.export(program, dynamo=True, verbose=False, input_names=[INPUT], output_names=list(OUTPUTS))
    except Exception as error:  # whatever the exporters say of an operation that they do not know
        raise UserError(f"the student cannot be exported ({str(error).splitlines()[0]}); take another network") from None
    assert network is not None
    network.model.metadata_props.update(said)
    torch.export.save(program, folder / PROGRAM, extra_files={EXTRA: json.dumps(said)})
    network.save(folder / ONNX)


class Reader:
    """One of the two files, opened, with the `facts` of its metadata: inputs (n, ...) -> logits and probabilities (n, K, ...)."""

    def __init__(self, path: Path, threads: int = 0):
        """Open it, to be run on so many threads, or on all; raises UserError where it cannot be read here."""
        if not path.is_file():
            raise UserError(f"{path} is missing; stage `export` writes it")
        self.path = path
        try:
            said = self._onnx(threads) if path.suffix == ".onnx" else self._program()
        except UserError:
            raise
        except Exception as error:  # of kinds that each library has for itself
            raise UserError(
                f"{path} cannot be read here ({str(error).splitlines()[0]}); update onnxruntime or torch, or export it anew"
            ) from None
        if "classes" not in said:
            raise UserError(f"{path} has no metadata of this project; give what stage `export` wrote")
        self.facts: dict[str, Any] = {key: json.loads(value) for key, value in said.items()}

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self._ask(inputs)

    def _onnx(self, threads: int) -> dict[str, str]:
        runtime = optional("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = runtime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

        def ask(inputs: Tensor) -> tuple[Tensor, Tensor]:
            logits, probabilities = session.run(list(OUTPUTS), {INPUT: inputs.numpy()})
            return torch.from_numpy(logits), torch.from_numpy(probabilities)

        self._ask = ask
        found: dict[str, str] = session.get_modelmeta().custom_metadata_map
        return found

    def _program(self) -> dict[str, str]:
        beside = {EXTRA: ""}
        module = torch.export.load(self.path, extra_files=beside).module()

        def ask(inputs: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                answer = module(inputs)
            return answer[OUTPUTS[0]], answer[OUTPUTS[1]]

        self._ask = ask
        found: dict[str, str] = json.loads(beside[EXTRA] or "{}")
        return found
