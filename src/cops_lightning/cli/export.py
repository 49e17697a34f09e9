"""`cops-export`: a detector as one file that other programs run, beside a report that it is the same."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from cops_lightning.cli.words import DetectorSettings, WordsCommand, detector_of
from cops_lightning.core.errors import CopsError
from cops_lightning.core.places import NOTHING, require_apart, require_no_run, require_writable
from cops_lightning.core.reporting import console, warn

MORE = """\
The file takes "pixels", RGB images of the detector's size, uint8, (batch, side, side, 3), and gives "score", (batch),
and "map", (batch, side, side), both in [0, 1]. Normalisation, prompts and fixed draws are inside. It is run beside the
detector first, and written only if both agree; FILE.parity.json says how well.

examples:
  cops-export checkpoint=RUN/checkpoints/last.ckpt
  cops-export checkpoint=last.ckpt out=parts.xml format=openvino images=photos
  cops-export checkpoint=last.ckpt out=parts-int8.onnx number=int8
  cops-export checkpoint=released.pth auxiliary=visa backbone=vit_l14_336 out=cops.onnx"""


@dataclass(frozen=True, kw_only=True)
class ExportSettings(DetectorSettings):
    """Write a detector to one file, from the pixels of an image to its score and map, that needs no torch.

    Args:
        format: of the file; openvino is two, .xml and .bin.
        out: the file; default: the checkpoint's name, in the folder where the command runs.
        number: of large products. int8 is smaller and quicker; what it loses is measured.
        images: file or folder of images to compare on; default: rendered ones.
        count: of images to compare on, at most.
        bound: largest difference of score and map between an fp32 file and the detector.
        loss: points of image and of pixel AUROC that int8 may lose, on rendered images, whose labels are known.
        calibration: file of cops-calibrate, whose thresholds and p-values the file shall hold.
        threshold: without a calibration, the score above which an image is anomalous.
        map_threshold: without a calibration, the value above which a pixel belongs to a region.
    """

    format: Literal["onnx", "torch_export", "openvino"] = "onnx"
    out: Path | None = None
    number: Literal["fp32", "int8"] = "fp32"
    images: Path | None = None
    count: Annotated[int, Ge(1)] = 64
    bound: Annotated[float, Interval(gt=0, lt=1)] = 1e-4
    loss: Annotated[float, Ge(0)] = 0.5
    calibration: Path | None = None
    threshold: float | None = None
    map_threshold: Annotated[float, Interval(ge=0, le=1)] = 0.5


COMMAND = WordsCommand("cops-export", ExportSettings, more=MORE)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    return COMMAND.main(argv, _export)


def _export(_words: list[str], settings: ExportSettings) -> int:
    # Imported where used: they take seconds, and --help needs none of them.
    from cops_lightning.calibration import Calibration
    from cops_lightning.data.readers.pictures import folders_read
    from cops_lightning.export.formats import SUFFIXES, is_ours, parts_of
    from cops_lightning.export.parity import of_images, rendered
    from cops_lightning.export.run import described, export, report_of, table

    path = settings.out or Path(f"{settings.checkpoint.stem}{SUFFIXES[settings.format]}")
    read = [] if settings.images is None else folders_read(settings.images)
    for part in (*parts_of(path), report_of(path)):
        require_no_run("out", part)
        require_writable(part)
        require_apart("out", part, read)
        if part.is_dir() or (part.exists() and not is_ours(path)):
            raise CopsError(f"out is {path}: {part} is there and is not of cops-export. {NOTHING}")
    detector = detector_of(replace(settings, device="cpu"), precision="fp32")
    trial = (
        rendered(detector.image_size, settings.count)
        if settings.images is None
        else of_images(settings.images, detector.image_size, settings.count)
    )
    said = replace(described(detector), threshold=settings.threshold, map_threshold=settings.map_threshold)
    if settings.calibration is not None:
        said = said.calibrated(Calibration.read(settings.calibration))
    shown = console(stderr=True)
    with shown.status("") as status:
        parity = export(
            detector,
            path,
            settings.format,
            number=settings.number,
            trial=trial,
            bound=settings.bound,
            loss=settings.loss,
            description=said,
            tick=status.update,
        )
    console().print(table(path, parity, settings.loss))
    if parity.bound is None and parity.losses is None:
        warn("What int8 loses is not known, as nobody says which of these images are anomalous. Leave out images=.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
