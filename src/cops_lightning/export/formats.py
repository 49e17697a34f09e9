"""The formats of exported files: how each is written, with the description inside."""

import logging
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import xxhash
from torch.export import ExportedProgram

from cops_lightning.core.errors import ConfigError, not_installed
from cops_lightning.core.files import BLOCK, regular, replacing, temporary_folder
from cops_lightning.export.description import KEY, Description, ExportError
from cops_lightning.export.graph import OUTPUTS, PIXELS

Format = Literal["onnx", "torch_export", "openvino"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch_export": ".pt2", "openvino": ".xml"}
WEIGHTS = ".bin"  # an OpenVINO model is two files: the graph, and beside it its weights
SEAL = "cops_lightning_seal"
OPSET = 20
BATCH = "batch"
LARGEST = 2_000_000_000  # bytes of weights that one ONNX file, a protobuf message, can hold
# The extra that brings each library.
_EXTRAS = {
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
    "nncf": "openvino",
}
_WRITTEN_BY: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript"),
    "torch_export": (),
    "openvino": ("onnx", "onnxscript", "openvino"),
}


def require_libraries(*names: str) -> None:
    """Raise ConfigError, with what to install, unless these libraries are there."""
    if missing := [name for name in names if find_spec(name) is None]:
        extras = ",".join(dict.fromkeys(_EXTRAS[name] for name in missing))
        raise ConfigError(not_installed("An exported file", f"cops_lightning[{extras}]"))


def onnx_of(program: ExportedProgram) -> Any:
    """The graph as an ONNX model. Raises ExportError where its weights are more than one file can hold."""
    size = sum(weight.nbytes for weight in (*program.constants.values(), *program.state_dict.values()))
    if size > LARGEST:
        raise ExportError(
            f"The weights are {size / 1e9:.1f} GB, and one ONNX file holds 2 GB. Use format=torch_export, or a smaller "
            "backbone."
        )
    with _quiet():
        made = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=[PIXELS], output_names=OUTPUTS, verbose=False
        )
    assert made is not None
    model = made.model_proto
    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for node in graph.node:  # where in our source each came from, with paths of this machine
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:  # such as 2*s81
                axis.dim_param = axis.dim_param.replace(symbol, BATCH)
    return model


def write_onnx(program: ExportedProgram, path: Path, description: Description) -> None:
    """An ONNX file with its weights inside; see `onnx_of`."""
    import onnx

    model = onnx_of(program)
    model.metadata_props.add(key=KEY, value=description.text())
    onnx.save(model, path)


def write_torch_export(program: ExportedProgram, path: Path, description: Description) -> None:
    """An archive for torch.export.load, which `export.program` reads too."""
    for node in program.graph.nodes:  # where in our source each came from, with paths of this machine
        node.meta.pop("stack_trace", None)
    with _quiet():
        torch.export.save(program, path, extra_files={f"{KEY}.json": description.text()})


def write_openvino(program: ExportedProgram, path: Path, description: Description) -> None:
    """An OpenVINO model in fp32: `path`, and beside it the weights. It is read from ONNX, as OpenVINO reads it best."""
    import openvino

    with temporary_folder("cops-openvino") as folder:
        write_onnx(program, folder / "graph.onnx", description)
        model = openvino.Core().read_model(folder / "graph.onnx")
    save_openvino(model, path, description)


def save_openvino(model: object, path: Path, description: Description) -> None:
    """Write an OpenVINO model, weights as they are, with its description."""
    import openvino

    model.set_rt_info(description.text(), [KEY])  # type: ignore[attr-defined]
    openvino.save_model(model, path, compress_to_fp16=False)


_WRITERS: dict[Format, Callable[[ExportedProgram, Path, Description], None]] = {
    "onnx": write_onnx,
    "torch_export": write_torch_export,
    "openvino": write_openvino,
}


def write(format: Format, program: ExportedProgram, path: Path, description: Description) -> None:
    """Write a file of a format. Raises ConfigError where a library for it is not installed."""
    require_libraries(*_WRITTEN_BY[format])
    _WRITERS[format](program, path, description)
    seal(path)


def seal(path: Path) -> None:
    """End an ONNX file, or the .xml of an OpenVINO model, with a hash of all that the model consists of.

    Neither format has a checksum of its own, and one bit of a weight changes every score. An ONNX file may be joined
    with another one by its bytes: the end is one that adds an entry of metadata. That of an .xml is a comment.
    """
    if path.suffix in _ENDS:
        end = _end(path.suffix, _hashed(path, path.stat().st_size))
        with path.open("ab") as file:
            file.write(end)


def require_whole(path: Path) -> None:
    """Raise ExportError where a file of a format that is sealed is not, to the bit, what was."""
    if path.suffix.lower() not in _ENDS:
        return
    length = len(_end(path.suffix, "0" * 32))
    left = path.stat().st_size - length
    with path.open("rb") as file:
        file.seek(max(0, left))
        end = file.read()
    if left < 0 or end != _end(path.suffix, _hashed(path, left)):
        raise ExportError(f"{path} is not what cops-export wrote. Restore it, or export the checkpoint anew.")


def is_ours(path: Path) -> bool:
    """Whether a file is one that `write` wrote, whole or damaged."""
    if path.suffix == SUFFIXES["torch_export"]:
        try:
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith(f"{KEY}.json") for name in archive.namelist())
        except (OSError, zipfile.BadZipFile):
            return False
    with suppress(OSError), regular(path) as file:
        file.seek(-min(path.stat().st_size, 100), os.SEEK_END)
        return SEAL.encode() in file.read()
    return False


def _hashed(path: Path, length: int) -> str:
    """The hash of a model's files, of the last one up to a length."""
    state = xxhash.xxh3_128()
    for part in parts_of(path):
        left = length if part == path else part.stat().st_size
        state.update(f"{left}:".encode())
        with part.open("rb") as file:
            while block := file.read(min(BLOCK, left)):
                state.update(block)
                left -= len(block)
    return state.hexdigest()


def _onnx_end(digest: str) -> bytes:
    key, value = SEAL.encode(), digest.encode()
    entry = bytes([0x0A, len(key)]) + key + bytes([0x12, len(value)]) + value  # StringStringEntryProto
    return bytes([14 << 3 | 2, len(entry)]) + entry  # ModelProto.metadata_props, of which there may be several


def _xml_end(digest: str) -> bytes:
    return f"<!-- {SEAL} {digest} -->\n".encode()


_ENDS: dict[str, Callable[[str], bytes]] = {".onnx": _onnx_end, ".xml": _xml_end}


def _end(suffix: str, digest: str) -> bytes:
    return _ENDS[suffix.lower()](digest)


def parts_of(path: Path) -> list[Path]:
    """The files that an exported model consists of; the one that is given comes last."""
    return [path.with_suffix(WEIGHTS), path] if path.suffix == SUFFIXES["openvino"] else [path]


def put_in_place(made: Path, path: Path) -> None:
    """Copy an exported model to where it belongs, each of its files in one step."""
    for source, destination in zip(parts_of(made), parts_of(path), strict=True):
        with replacing(destination) as partial:
            shutil.copyfile(source, partial)


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters remark on their own workings at length; what goes wrong they raise."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
