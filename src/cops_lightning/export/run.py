"""An export from start to end: written, run beside the original, and kept only if both agree."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rich import box
from rich.table import Table

from cops_lightning.core.errors import ConfigError
from cops_lightning.core.files import temporary_folder, writing
from cops_lightning.export.description import Description, Number
from cops_lightning.export.engines import open_exported
from cops_lightning.export.formats import OPSET, SUFFIXES, Format, parts_of, put_in_place, require_libraries, write
from cops_lightning.export.graph import OUTPUTS, PIXELS, ExportedGraph
from cops_lightning.export.parity import BOUND, LOSS, Parity, Trial, compare, joined, original, rendered, require_bound
from cops_lightning.export.quantise import CALIBRATION, quantise
from cops_lightning.models.detector import Detector


def export(
    detector: Detector,
    path: Path,
    format: Format,
    *,
    number: Number = "fp32",
    trial: Trial | None = None,
    bound: float = BOUND,
    loss: float = LOSS,
    description: Description | None = None,
    tick: Callable[[str], None] = lambda _what: None,
) -> Parity:
    """Write a detector to `path`, whose suffix must be the format's, and a report of parity beside it.

    Args:
        detector: one that has `graph_scores`, on the CPU.
        path: the file.
        format: of the file.
        number: of large products; int8 is for onnx.
        trial: images to compare on; default: rendered ones of the test categories.
        bound: what fp32 may differ by at most, in score, map and feature.
        loss: points of image and of pixel AUROC that int8 may lose at most, where labels are known.
        description: what the file says about itself; default: what the detector says.
        tick: called with what is about to happen.

    Raises ConfigError for what cannot be exported, and ExportError where the file differs from the detector by more
    than the bound, or int8 loses too much. Then nothing is left on the disk.
    """
    require_bound(bound)
    if path.suffix != SUFFIXES[format]:
        raise ConfigError(f"{path} is to be of format {format}, whose files end in {SUFFIXES[format]}. Name it so.")
    if number == "int8" and format != "onnx":
        raise ConfigError(f"int8 is for format=onnx, not {format}. With OpenVINO bf16 is as fast and loses less.")
    if number == "int8" and description is not None and description.calibration is not None:
        raise ConfigError(
            "A calibration of the detector in fp32 does not hold for int8, which scores otherwise. Export without "
            "calibration=, then calibrate the file: cops-calibrate checkpoint=FILE normal=FOLDER."
        )
    runner = {"onnx": ("onnxruntime",), "openvino": ("openvino",), "torch_export": ()}
    require_libraries(*runner[format])
    tick("tracing")
    program = ExportedGraph(detector).traced()
    tick("scoring images with the original")
    images = trial or rendered(detector.image_size, 32)
    before = original(detector, images)
    said = replace(description or described(detector), precision=number)
    with temporary_folder("cops-export") as folder:
        made = folder / f"made{SUFFIXES[format]}"
        tick(f"writing {format}")
        write(format, program, made, replace(said, precision="fp32"))
        if number == "int8":
            tick("calibrating int8")
            plain, made = made, made.with_stem("int8")
            quantise(plain, made, rendered(detector.image_size, CALIBRATION, seed=1, held_out=False), said)
        tick("scoring the same images with the file")
        run = open_exported(made, "fp32", library="onnxruntime" if format == "onnx" else "auto").run
        parity = compare(before, joined([run(pixels) for pixels in images.batches()]), images, _bound(number, bound))
        parity.require(f"{format} in {number}", loss)
        put_in_place(made, path)
    size = sum(part.stat().st_size for part in parts_of(path))
    content = {"file": path.name, "bytes": size, "format": format, "inputs": [PIXELS], "outputs": OUTPUTS}
    content |= {"opset": OPSET if format == "onnx" else None, **json.loads(said.text()), "parity": parity.as_plain()}
    with writing(report_of(path)) as file:
        file.write(json.dumps(content, indent=2) + "\n")
    return parity


def report_of(path: Path) -> Path:
    """Where the report of an exported file is."""
    return path.with_name(f"{path.name}.parity.json")


def table(path: Path, parity: Parity, loss: float = LOSS) -> Table:
    """What an export came to, for the console."""
    size = sum(part.stat().st_size for part in parts_of(path))
    shown = Table(title=f"{path}, {size / 2**20:.1f} MiB", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for heading in (f"{parity.images} images ({parity.source})", "original", "file", "largest difference", "bound"):
        shown.add_column(heading, justify="left" if not shown.columns else "right")
    bound = "none" if parity.bound is None else f"{parity.bound:.0e}"
    shown.add_row("score", "", "", f"{parity.score:.1e}", bound)
    shown.add_row("map", "", "", f"{parity.map:.1e}", bound)
    shown.add_row("feature", "", "", f"{parity.feature:.1e}", bound)
    for name, before, after in (
        ("image AUROC", parity.auroc, parity.auroc_exported),
        ("pixel AUROC", parity.pixel_auroc, parity.pixel_auroc_exported),
    ):
        if before is not None and after is not None:
            limit = "" if parity.bound is not None else f"{loss:g}"
            shown.add_row(name, f"{before:.2f}", f"{after:.2f}", f"{round(before - after, 2) + 0.0:.2f} lost", limit)
    return shown


def described(detector: Detector) -> Description:
    """What can be said of a detector itself."""
    return Description(detector.identity(), detector.image_size, library=version("cops_lightning"))


def _bound(number: Number, bound: float) -> float | None:
    return bound if number == "fp32" else None
