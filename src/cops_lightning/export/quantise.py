"""int8 by onnxruntime: weights per channel, and inputs of large products with ranges that are measured on images.

Static ranges, as with ranges of its own batch an image's score would depend on its neighbours.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cops_lightning.export.description import KEY, Description
from cops_lightning.export.formats import require_libraries, seal
from cops_lightning.export.graph import PIXELS
from cops_lightning.export.parity import Trial

PRODUCTS = ("MatMul", "Gemm")
# Rendered images that ranges are measured on, of categories that no test image is of.
CALIBRATION = 80


def quantise(plain: Path, made: Path, calibration: Trial, description: Description) -> None:
    """Write `made`, the int8 form of the fp32 ONNX file `plain`, which is said to be in int8 then.

    Raises ConfigError without onnxruntime.
    """
    require_libraries("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it remarks on every tensor to the root logger
    try:
        folded = made.with_suffix(".folded")
        quant_pre_process(str(plain), str(folded), skip_symbolic_shape=True)
        graph = onnx.load(folded).graph
        weights = {weight.name for weight in graph.initializer}
        quantize_static(
            str(folded),
            str(made),
            _Images(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            # Products of activations alone, those of attention, stay in fp32.
            nodes_to_quantize=[
                node.name for node in graph.node if node.op_type in PRODUCTS and weights.intersection(node.input)
            ],
        )
    finally:
        logging.getLogger().setLevel(level)
    model = onnx.load(made)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=replace(description, precision="int8").text())
    onnx.save(model, made)
    seal(made)


def _batches(trial: Trial) -> Iterator[dict[str, Any]]:
    for pixels in trial.batches():
        yield {PIXELS: pixels}


class _Images:
    """What onnxruntime calibrates on: its CalibrationDataReader, by what it calls."""

    def __init__(self, trial: Trial) -> None:
        self._left = _batches(trial)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, None after the last."""
        return next(self._left, None)
