"""Prediction by the detector itself and by files that it was exported to, on the same images."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch

from cops_lightning.benchmark.measure import Outputs, Way
from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.files import temporary_folder
from cops_lightning.core.seeding import FIXED
from cops_lightning.data.dataset import normalise
from cops_lightning.export.engines import Engine, Library, Pixels, Products, open_exported
from cops_lightning.export.formats import write
from cops_lightning.export.graph import ExportedGraph
from cops_lightning.export.parity import rendered
from cops_lightning.export.quantise import CALIBRATION, quantise
from cops_lightning.export.run import described
from cops_lightning.models.cops import CoPS


def exported_ways(model: Callable[[FrozenClip], CoPS], backbone: FrozenClip, batch: int) -> dict[str, Way]:
    """From pixels at the model's size to scores and maps: the detector in bf16, and its files where they can be run."""
    detector = model(backbone).cpu()
    pixels = rendered(detector.image_size, batch).pixels
    half = FrozenClip(
        backbone.clip,
        backbone.record,
        image_size=backbone.image_size,
        deep_layers=backbone.deep_layers,
        precision="bf16",
    )
    ways: dict[str, Way] = {"predict-eager-bf16": eager(model(half), pixels)}
    for name, engine in _engines(detector):
        ways[f"predict-{name}"] = _running(engine, pixels)
    return ways


def eager(detector: CoPS, pixels: Pixels) -> Way:
    """The detector itself."""

    @torch.no_grad()
    def run() -> Outputs:
        images = torch.stack([normalise(image) for image in torch.from_numpy(pixels)])
        scores = detector.score(images, names=[FIXED] * len(images))
        return scores.image, scores.map

    return run


def _engines(detector: CoPS) -> Iterator[tuple[str, Engine]]:
    """Files in every precision, by every library that is installed, with as many threads as torch has."""
    if find_spec("onnxruntime") is None or find_spec("onnxscript") is None:
        return
    said, threads = described(detector), torch.get_num_threads()
    asked: list[tuple[str, Products, Library]] = [("onnxruntime-fp32", "fp32", "onnxruntime")]
    if find_spec("openvino") is not None:
        asked += [("openvino-fp32", "fp32", "openvino"), ("openvino-auto", "auto", "openvino")]
    with temporary_folder("cops-bench") as folder:
        plain, small = folder / "plain.onnx", folder / "int8.onnx"
        write("onnx", ExportedGraph(detector).traced(), plain, said)
        quantise(plain, small, rendered(detector.image_size, CALIBRATION, seed=1, held_out=False), said)
        for name, precision, library in asked:
            engine = open_exported(plain, precision, threads, library)
            yield name.replace("auto", engine.precision), engine
        yield "onnxruntime-int8", open_exported(small, "fp32", threads, "onnxruntime")


def _running(engine: Engine, pixels: Pixels) -> Way:
    def run() -> Outputs:
        return tuple(map(torch.from_numpy, engine.run(pixels)[:2]))

    return run
