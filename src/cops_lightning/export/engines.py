"""Exported files, opened by onnxruntime, OpenVINO or torch. What a file holds is checked, and nothing else is run."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8

from cops_lightning.core.choices import require_choice
from cops_lightning.core.errors import ConfigError, excerpt, told
from cops_lightning.export.description import KEY, Description, ExportError
from cops_lightning.export.formats import SUFFIXES, parts_of, require_libraries, require_whole
from cops_lightning.export.graph import FEATURE, MAP, OUTPUTS, PIXELS, SCORE
from cops_lightning.export.program import BYTES, Program

Pixels = UInt8[np.ndarray, "b s s 3"]
Products = Literal["auto", "fp32", "bf16"]
Library = Literal["auto", "onnxruntime", "openvino"]
WAY_OUT = "Expected a file that cops-export wrote and that is whole; export the checkpoint anew."


class Found(NamedTuple):
    """What a graph finds in images: scores and maps in [0, 1], and the encoder's global features."""

    score: Float[np.ndarray, " b"]
    map: Float[np.ndarray, "b s s"]
    feature: Float[np.ndarray, "b d"]


class Engine(NamedTuple):
    """An opened file: what it says about itself, in what its large products are computed, by what, and its graph."""

    description: Description
    precision: str
    library: str
    run: Callable[[Pixels], Found]


def is_exported(path: Path) -> bool:
    """Whether a path has the suffix of a file that `open_exported` opens."""
    return path.suffix.lower() in SUFFIXES.values()


def open_exported(
    path: Path, precision: Products = "fp32", threads: int | None = None, library: Library = "auto"
) -> Engine:
    """The graph of an .onnx file, of an OpenVINO .xml and its .bin, or of a .pt2 of torch.export, on the CPU.

    Args:
        path: the file.
        precision: of large products. In fp32 scores are those of the detector; "auto" is what is fastest: bf16 where
            OpenVINO runs, the CPU computes in it and the file holds no threshold and no
            calibration, which are of scores in fp32.
        threads: that compute; None leaves it to the library. torch, which runs a .pt2, has those of the process.
        library: that runs the graph of an .onnx file; "auto" is OpenVINO where it is installed, and onnxruntime else
            and for int8.

    Raises ExportError where the file is absent, damaged, or has another input or output than cops-export gives, and
    ConfigError where a library is not installed or has not this precision.
    """
    require_choice("precision", precision, Products)
    require_choice("library", library, Library)
    for part in parts_of(path):
        if not part.is_file():
            raise ExportError(f"There is no file {part}. {WAY_OUT}")
    suffix = path.suffix.lower()
    if not is_exported(path):
        raise ExportError(
            f"{path} ends in {suffix or 'nothing'}; {', '.join(SUFFIXES.values())} can be run here. {WAY_OUT}"
        )
    if suffix == SUFFIXES["torch_export"]:
        if library != "auto" or precision == "bf16":
            raise ConfigError(f"{path} is computed by torch, in fp32. Leave out library= and precision=.")
        return _open_torch_export(path)  # whose members have checksums of their own
    require_whole(path)
    if suffix == SUFFIXES["openvino"]:
        if library == "onnxruntime":
            raise ConfigError(
                f"{path} is OpenVINO's own format, which onnxruntime does not read. Use library=openvino."
            )
        return _open_openvino(path, None, precision, threads)
    if library == "onnxruntime" or (library == "auto" and find_spec("openvino") is None):
        return _open_onnxruntime(path, precision, threads)
    said = _said_by_onnx(path)
    if library == "auto" and said.precision == "int8":  # whose maps OpenVINO changes more than onnxruntime does
        return _open_onnxruntime(path, precision, threads)
    return _open_openvino(path, said, precision, threads)


def _said_by_onnx(path: Path) -> Description:
    """The description in an ONNX file. Raises ExportError where the file wants others beside it, or is damaged."""
    require_libraries("onnx")
    import onnx

    with told(ExportError, f"{path} cannot be opened", WAY_OUT):
        model = onnx.load_model(path, load_external_data=False)
        if any(weight.data_location == onnx.TensorProto.EXTERNAL for weight in _tensors(model)):
            raise ExportError(f"{path} has weights in other files, which are not read. {WAY_OUT}")
        return Description.read(next((e.value for e in model.metadata_props if e.key == KEY), None), str(path))


def _open_onnxruntime(path: Path, precision: Products, threads: int | None) -> Engine:
    require_libraries("onnxruntime")
    import onnxruntime

    if precision == "bf16":
        raise ConfigError("onnxruntime has no bf16 on a CPU. Use precision=fp32, or library=openvino.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    with told(ExportError, f"{path} cannot be opened", WAY_OUT):
        # From memory, so that a graph which names further files does not get them.
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        said = session.get_modelmeta().custom_metadata_map.get(KEY)
    description = Description.read(said, str(path))
    ranks = {of.name: len(of.shape) for of in session.get_outputs()}
    inputs = [(of.name, of.type, tuple(of.shape[1:])) for of in session.get_inputs()]
    _require(path, inputs, "tensor(uint8)", description.image_size, ranks)

    def run(pixels: Pixels) -> Found:
        with told(ExportError, f"{path} cannot be run", WAY_OUT):
            return _checked(session.run(OUTPUTS, {PIXELS: pixels}), pixels, path)

    return Engine(description, description.precision, "onnxruntime", run)


def _open_openvino(path: Path, said: Description | None, precision: Products, threads: int | None) -> Engine:
    """`said` is the description where it was read before, as of an ONNX file."""
    require_libraries("openvino")
    import openvino

    core = openvino.Core()
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not able:
        raise ConfigError("This CPU does not compute in bf16. Use precision=fp32 or auto.")
    with told(ExportError, f"{path} cannot be opened", WAY_OUT):
        model = core.read_model(path)
        if said is None:
            text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
            said = Description.read(text, str(path))
        ranks = {name: of.partial_shape.rank.get_length() for of in model.outputs for name in of.names}
        inputs = []
        for of in model.inputs:
            shape = tuple(axis.get_length() if axis.is_static else None for axis in of.partial_shape)
            inputs.append((of.any_name, of.element_type.get_type_name(), shape[1:]))
        _require(path, inputs, "u8", said.image_size, ranks)
        half = precision == "bf16" or (
            precision == "auto" and able and said.threshold is None and said.calibration is None
        )
        asked: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if half else "f32", "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(model, "CPU", asked | ({"INFERENCE_NUM_THREADS": threads} if threads else {}))

    def run(pixels: Pixels) -> Found:
        with told(ExportError, f"{path} cannot be run", WAY_OUT):
            found = compiled([pixels])
            return _checked([found[name] for name in OUTPUTS], pixels, path)

    return Engine(said, "bf16" if half else said.precision, "openvino", run)


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors that an ONNX model holds: of its graph, of graphs within it, and of functions."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in (value,) if hasattr(value, "ListFields") else value:
                if field.message_type.name == "TensorProto":
                    yield one
                else:
                    yield from _tensors(one)


def _open_torch_export(path: Path) -> Engine:
    with told(ExportError, f"{path} cannot be opened", WAY_OUT):
        program = Program(path)
        (name, kind, size), axes = program.signature
        said = Description.read(program.description, str(path))
        ranks = dict(zip(OUTPUTS, axes, strict=True))  # an archive has outputs in an order, and no names
    _require(path, [(name, kind, size)], BYTES, said.image_size, ranks)

    def run(pixels: Pixels) -> Found:
        with told(ExportError, f"{path} cannot be run", WAY_OUT):
            return _checked([output.numpy() for output in program(torch.from_numpy(pixels))], pixels, path)

    return Engine(said, said.precision, "torch", run)


def _require(path: Path, inputs: list[Any], kind: str | int, side: int, ranks: dict[str, int]) -> None:
    """Raise ExportError unless a graph takes pixels of this size and gives scores and maps."""
    if inputs != [(PIXELS, kind, (side, side, 3))] or [ranks.get(name) for name in OUTPUTS] != [1, 3, 2]:
        raise ExportError(
            f"{path} takes {excerpt(inputs)} and gives {excerpt(ranks)}; expected {PIXELS} of uint8, (batch, {side}, "
            f"{side}, 3), and the outputs {SCORE} (batch), {MAP} (batch, {side}, {side}) and {FEATURE} (batch, width). "
            f"{WAY_OUT}"
        )


def _checked(given: Any, pixels: Pixels, path: Path) -> Found:
    """What a graph gave, if it is of the shape and the range that it should be."""
    found = Found(*(np.array(one, dtype=np.float32) for one in given))
    shapes = found.score.shape, found.map.shape, found.feature.shape[:1]
    if shapes != (pixels.shape[:1], pixels.shape[:3], pixels.shape[:1]):
        raise ExportError(f"{path} gave scores, maps and features of shapes {shapes}. {WAY_OUT}")
    if not all(np.isfinite(one).all() for one in found):
        raise ExportError(f"{path} gave values that are not finite. {WAY_OUT}")
    return found
