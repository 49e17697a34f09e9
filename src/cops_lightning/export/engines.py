"""Exported files, opened by onnxruntime or OpenVINO. What a file holds is checked, and nothing else is read or run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from cops_lightning.core.choices import require_choice
from cops_lightning.core.errors import ConfigError, excerpt, told
from cops_lightning.export.description import KEY, LONGEST, Description, ExportError
from cops_lightning.export.formats import SUFFIXES, parts_of, require_libraries
from cops_lightning.export.graph import MAP, PIXELS, SCORE

Pixels = UInt8[np.ndarray, "b s s 3"]
Products = Literal["auto", "fp32", "bf16"]
WAY_OUT = "Expected a file that cops-export wrote and that is whole; export the checkpoint anew."


class Found(NamedTuple):
    """What a graph finds in images: scores and maps in [0, 1]."""

    score: Float[np.ndarray, " b"]
    map: Float[np.ndarray, "b s s"]


class Engine(NamedTuple):
    """An opened file: what it says about itself, in what its large products are computed, and its graph."""

    description: Description
    precision: str
    run: Callable[[Pixels], Found]


def is_exported(path: Path) -> bool:
    """Whether a path has the suffix of a file that `open_exported` opens."""
    return path.suffix.lower() in (SUFFIXES["onnx"], SUFFIXES["openvino"])


def open_exported(path: Path, precision: Products = "auto", threads: int | None = None) -> Engine:
    """The graph of an .onnx file, by onnxruntime, or of an .xml and its .bin, by OpenVINO, on the CPU.

    Args:
        path: the file.
        precision: of large products; "auto" is bf16 where OpenVINO runs and the CPU computes in it, else fp32.
        threads: that compute; None leaves it to the library.

    Raises ExportError where the file is absent, damaged, or has another input or output than cops-export gives, and
    ConfigError where a library is not installed or has not this precision.
    """
    require_choice("precision", precision, Products)
    for part in parts_of(path):
        if not part.is_file():
            raise ExportError(f"There is no file {part}. {WAY_OUT}")
    if path.suffix.lower() == SUFFIXES["onnx"]:
        return _open_onnx(path, precision, threads)
    if path.suffix.lower() == SUFFIXES["openvino"]:
        return _open_openvino(path, precision, threads)
    raise ExportError(
        f"{path} ends in {path.suffix or 'nothing'}; .onnx and .xml can be run here. A .pt2 is for torch.export.load."
    )


def _open_onnx(path: Path, precision: Products, threads: int | None) -> Engine:
    require_libraries("onnxruntime")
    import onnxruntime

    if precision == "bf16":
        raise ConfigError("onnxruntime has no bf16 on a CPU. Use precision=fp32, or a file of format=openvino.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    with told(ExportError, f"{path} cannot be opened", WAY_OUT):
        # From memory, so that a graph which names further files does not get them.
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        said = session.get_modelmeta().custom_metadata_map.get(KEY)
    description = Description.read(said, str(path))
    shapes = {of.name: tuple(of.shape) for of in session.get_outputs()}
    inputs = [(of.name, of.type, tuple(of.shape)) for of in session.get_inputs()]
    side = description.image_size
    _require(path, [(name, kind, shape[1:]) for name, kind, shape in inputs], "tensor(uint8)", side, shapes)

    def run(pixels: Pixels) -> Found:
        with told(ExportError, f"{path} cannot be run", WAY_OUT):
            return _checked(session.run([SCORE, MAP], {PIXELS: pixels}), pixels, path)

    return Engine(description, "int8" if description.precision == "int8" else "fp32", run)


def _open_openvino(path: Path, precision: Products, threads: int | None) -> Engine:
    require_libraries("openvino")
    import openvino

    core = openvino.Core()
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not able:
        raise ConfigError("This CPU does not compute in bf16. Use precision=fp32 or auto.")
    chosen = "bf16" if able and precision != "fp32" else "f32"
    asked: dict[str, Any] = {"INFERENCE_PRECISION_HINT": chosen, "PERFORMANCE_HINT": "LATENCY"}
    with told(ExportError, f"{path} cannot be opened", WAY_OUT):
        model = core.read_model(path)
        said = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
        description = Description.read(said if said is None else said[: LONGEST + 1], str(path))
        shapes = {name: tuple(range(len(of.partial_shape))) for of in model.outputs for name in of.names}
        inputs = []
        for of in model.inputs:
            shape = tuple(axis.get_length() if axis.is_static else None for axis in of.partial_shape)
            inputs.append((of.any_name, of.element_type.get_type_name(), shape[1:]))
        _require(path, inputs, "u8", description.image_size, shapes)
        compiled = core.compile_model(model, "CPU", asked | ({"INFERENCE_NUM_THREADS": threads} if threads else {}))

    def run(pixels: Pixels) -> Found:
        with told(ExportError, f"{path} cannot be run", WAY_OUT):
            found = compiled([pixels])
            return _checked([found[SCORE], found[MAP]], pixels, path)

    name = {"bf16": "bf16", "f32": "fp32"}[chosen]
    return Engine(description, f"int8 and {name}" if description.precision == "int8" else name, run)


def _require(path: Path, inputs: list[Any], kind: str, side: int, outputs: dict[str, tuple[Any, ...]]) -> None:
    """Raise ExportError unless a graph takes pixels of this size and gives scores and maps."""
    ranks = {name: len(shape) for name, shape in outputs.items()}
    if inputs != [(PIXELS, kind, (side, side, 3))] or ranks.get(SCORE) != 1 or ranks.get(MAP) != 3:
        raise ExportError(
            f"{path} takes {excerpt(inputs)} and gives {excerpt(ranks)}; expected {PIXELS} of uint8, (batch, {side}, "
            f"{side}, 3), and the outputs {SCORE} (batch) and {MAP} (batch, {side}, {side}). {WAY_OUT}"
        )


def _checked(given: Any, pixels: Pixels, path: Path) -> Found:
    """What a graph gave, if it is of the shape and the range that it should be."""
    found = Found(*(np.array(one, dtype=np.float32) for one in given))
    if found.score.shape != pixels.shape[:1] or found.map.shape != pixels.shape[:3]:
        raise ExportError(f"{path} gave scores of shape {found.score.shape} and maps of {found.map.shape}. {WAY_OUT}")
    if not (np.isfinite(found.score).all() and np.isfinite(found.map).all()):
        raise ExportError(f"{path} gave values that are not finite. {WAY_OUT}")
    return found
