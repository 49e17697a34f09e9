"""`cops-predict`: score images with a trained detector, into files that grow as it goes."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

from annotated_types import Ge, Interval

from cops_lightning.cli.words import EXPORTED, DetectorSettings, WordsCommand, detector_of, exported_of
from cops_lightning.core.choices import Precision
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.places import require_apart, require_no_run

if TYPE_CHECKING:
    from cops_lightning.calibration import Calibration
    from cops_lightning.data.readers.pictures import Picture
    from cops_lightning.export.runtime import ExportedDetector
    from cops_lightning.inference.folder import Tally
    from cops_lightning.models.detector import Detector
    from cops_lightning.models.prediction import Rule

EXAMPLES = """\
examples:
  cops-predict photos checkpoint=last.ckpt out=found
  cops-predict "line3/*.png" extra.tif list.txt checkpoint=last.ckpt out=found heatmaps=true masks=true
  cops-predict photos checkpoint=last.ckpt calibration=calibration.json fdr=0.1 out=found
  cops-predict photos checkpoint=exported.onnx out=found
  cops-predict s3://bucket/line3/ checkpoint=last.ckpt out=found
  cops-predict s3://bucket/line3/ checkpoint=last.ckpt out=found over=ray address=auto
  cops-predict photos checkpoint=released_visa.pth auxiliary=visa backbone=vit_l14_336 out=found threshold=0.6

A SOURCE is an image, a TIFF of several pages, a folder, a pattern in quotes, a .txt that names an image in a line, or a
URL of a store that fsspec knows: an image, a prefix that ends in a slash, or a pattern with *.
OUT gets predictions.csv and predictions.jsonl, a row for each image as it is done, and at the end regions.coco.json.
The same command goes on where it was interrupted; an image that cannot be read is a row that says why.
Exit code: 0 where every image was read, else 1."""


@dataclass(frozen=True, kw_only=True)
class PredictSettings(DetectorSettings):
    """Score images with a trained detector, into files that grow as it goes.

    Args:
        out: folder of the predictions.
        calibration: a file of cops-calibrate, which gives thresholds and p-values.
        threshold: without a calibration, a score above it is anomalous; default: what an exported file holds, else no
            verdicts.
        fdr: with a calibration, write the images of the whole folder of which in expectation at most this share are
            normal into OUT/discoveries.csv at the end (Benjamini and Hochberg); default: no such file.
        map_threshold: without a calibration, pixels whose anomaly is above it belong to regions and masks; default:
            what an exported file holds, else 0.5, which suits few detectors.
        regions: write boxes of what is anomalous; without them large images are done sooner.
        heatmaps: write each image with its anomaly map laid over it, and boxes around regions, into OUT/heatmaps;
            colours mean the same in all of them, from 0 to 1, or to twice the threshold of regions where that is less.
        masks: write which pixels belong to regions, white on black, into OUT/masks.
        draws: what is drawn at random is fixed, the same for all images, or by image, as in studies.
        category: what is seen, for detectors whose prompts name it.
        precision: of the image encoder; auto is fp32, or half precision where this machine is more than 1.2 times as
            fast with it and no score of a measurement, made once, changes by more than 0.0001. With a calibration it is
            that of the calibration.
        batch_size: images that are scored together on a GPU; on a CPU each is scored by itself. auto measures.
        workers: threads that decode images; auto measures.
        over: ray computes on the machines of a Ray cluster, where nothing is measured: auto is the checkpoint's
            precision, 8 images together on a GPU, 2 threads. Default: on this machine alone.
        address: of the cluster, such as auto or ray://host:10001; default: the variable RAY_ADDRESS, or else Ray is
            started on this machine for as long as the command takes.
        actors: processes of the cluster, each with the detector in memory; auto is one for each GPU, or where there is
            none for each machine.
    """

    out: Path
    calibration: Path | None = None
    threshold: float | None = None
    fdr: Annotated[float, Interval(gt=0, lt=1)] | None = None
    map_threshold: Annotated[float, Interval(ge=0, le=1)] | None = None
    regions: bool = True
    heatmaps: bool = False
    masks: bool = False
    draws: Literal["fixed", "image"] = "fixed"
    category: str | None = None
    precision: Precision | Literal["auto"] = "auto"
    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    workers: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    over: Literal["ray"] | None = None
    address: str | None = None
    actors: Annotated[int, Ge(1)] | Literal["auto"] = "auto"


UNMEASURED_BATCH = 8
COMMAND = WordsCommand("cops-predict", PredictSettings, "SOURCE ...", EXAMPLES)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    return COMMAND.main(argv, predict, "interrupted; the same command goes on from there.")


def predict(sources: list[str], settings: PredictSettings) -> int:
    """Predict, say what came out, and return the exit code."""
    # Imported where used: they take seconds, and --help needs none of them.
    from cops_lightning.inference.folder import TABLE, decided, opened, require_same
    from cops_lightning.inference.predict import Sources, Wanted, predict_into

    _require_over(settings)
    _require_place(sources, settings.out)
    if decided(settings.out):  # said before a detector is read
        require_same(settings.out, _said_of(sources, settings))
    settings = _as_begun(settings)
    first = next(iter(Sources(sources)))  # a source that is not there is said before weights are read
    exported = exported_of(settings, precision="fp32" if settings.precision == "auto" else settings.precision)
    verdicts = _verdicts(settings, exported)
    calibration = verdicts.get("calibration") or (exported.description.calibration if exported else None)
    if settings.fdr is not None and calibration is None:
        raise ConfigError("fdr chooses by p-values, which come from a calibration. Add calibration=FILE.")
    wanted = Wanted(settings.regions, settings.heatmaps, settings.masks)
    options = {"draws": settings.draws, "category": settings.category, **verdicts}
    detector: Detector | ExportedDetector = exported or detector_of(
        settings if settings.over is None else replace(settings, device="cpu")
    )
    with ExitStack() as stack:
        write: Callable[..., Tally] = predict_into
        if settings.over is None:
            device = detector.device.type
            batch, workers, chosen = _suited(settings, detector, first, verdicts.get("calibration"))
        else:
            write, device = _over_cluster(settings, stack)
            (batch, workers), chosen = _unmeasured(settings, cast("Detector", detector), device, verdicts), ""
        decides = {**_decides(sources, settings, detector), "device": device, "batch_size": batch}
        folder = stack.enter_context(opened(settings.out, decides))
        if chosen:
            print(chosen, file=sys.stderr)
        options |= {"batch_size": batch, "workers": workers}
        tally: Tally = write(folder, detector, Sources(sources), wanted, **options)
        found = folder.write_discoveries(settings.fdr)
    alone = "" if settings.fdr is None else " each by itself"
    anomalous = "" if tally.anomalous is None else f", {tally.anomalous} of them anomalous{alone}"
    print(f"{tally.images - tally.unreadable} images scored{anomalous}: {settings.out / TABLE}")
    if settings.fdr is not None and calibration is not None:
        print(_of_folder(settings.fdr, found, tally, calibration, settings.out))
    if calibration is not None and calibration.shortage:
        print(f"warning: no image has a verdict. {calibration.shortage}", file=sys.stderr)
    if calibration is None and settings.map_threshold is None and 2 * tally.plain > tally.images - tally.unreadable:
        own = cast("Rule", detector.own_verdicts())
        print(_of_regions(tally, own.map_threshold), file=sys.stderr)
    if tally.unreadable:
        were = f"{tally.unreadable} of {tally.images} could not be read"
        print(f"warning: {were}; the column error says why.", file=sys.stderr)
    return int(tally.unreadable > 0)


def _as_begun(settings: PredictSettings) -> PredictSettings:
    """With what was measured when the folder was begun in place of auto: another measurement may choose otherwise."""
    from cops_lightning.inference.folder import decided

    before = decided(settings.out)
    precision, batch = before.get("precision"), before.get("batch_size")
    if settings.precision == "auto" and precision in get_args(Precision):
        settings = replace(settings, precision=cast(Precision, precision))
    if settings.batch_size == "auto" and isinstance(batch, int) and batch >= 1:
        settings = replace(settings, batch_size=batch)
    return settings


def _require_over(settings: PredictSettings) -> None:
    from cops_lightning.core.devices import require_device_of_cluster

    if settings.over is None:
        for key, value in (("address", settings.address is not None), ("actors", settings.actors != "auto")):
            if value:
                raise ConfigError(f"{key} is of a cluster. Add over=ray, or leave it out.")
    elif settings.checkpoint.suffix.lower() in EXPORTED:
        raise ConfigError(f"{settings.checkpoint} is an exported file, which runs on one machine. Leave out over=.")
    else:
        require_device_of_cluster(settings.device)


def _over_cluster(settings: PredictSettings, stack: ExitStack) -> "tuple[Callable[..., Tally], str]":
    """What predicts over the cluster, and on which kind of device of its machines."""
    from cops_lightning.core.cluster import cluster
    from cops_lightning.inference.spread import predict_over

    ray = stack.enter_context(cluster(settings.address))
    device = (settings.device or ("cuda" if ray.gpus else "cpu")).partition(":")[0]  # Ray says which of a machine
    return partial(predict_over, ray, device=device, actors=settings.actors), device


def _unmeasured(
    settings: PredictSettings, detector: "Detector", device: str, verdicts: dict[str, Any]
) -> tuple[int, int]:
    """The first two of `_suited` for machines that may differ, on which nothing is measured."""
    calibration: Calibration | None = verdicts.get("calibration")
    precision = settings.precision
    if precision == "auto" and calibration is not None:
        precision = cast(Precision, calibration.identity.precision)
    if precision != "auto":
        detector.backbone.use_precision(precision)
    batch = UNMEASURED_BATCH if settings.batch_size == "auto" else settings.batch_size
    return 1 if device == "cpu" else batch, 2 if settings.workers == "auto" else settings.workers


def _verdicts(settings: PredictSettings, exported: "ExportedDetector | None") -> dict[str, Any]:
    """The rule, or the calibration, of `Detector.outcomes`; none of both where an exported file's own decides."""
    from cops_lightning.calibration import Calibration
    from cops_lightning.models.prediction import Rule

    if settings.fdr is not None and settings.threshold is not None:
        raise ConfigError("Both fdr and threshold are given, and either decides. Leave out one of them.")
    cuts: dict[str, Any] = {"threshold": settings.threshold, "map_threshold": settings.map_threshold}
    cuts = {key: value for key, value in cuts.items() if value is not None}
    if settings.calibration is None:
        if exported is None:
            return {"rule": Rule(**cuts)}
        return {"rule": exported.ruled(**cuts)[0]} if cuts else {}
    for key in cuts:
        raise ConfigError(f"Both calibration and {key} are given, and either decides. Leave out one of them.")
    return {"calibration": Calibration.given(settings.calibration)}


def _of_regions(tally: "Tally", cut: float) -> str:
    images = tally.images - tally.unreadable
    return (
        f"{tally.plain} of {images} images show no region, as no pixel is above {cut:g}: map_threshold= sets another "
        "value, and a calibration finds one (cops-calibrate)."
    )


def _of_folder(rate: float, found: int, tally: "Tally", calibration: "Calibration", out: Path) -> str:
    """What was found in the folder as a whole; where that is nothing, how many normal images a single find takes."""
    from cops_lightning.calibration import needed
    from cops_lightning.inference.folder import DISCOVERIES

    images = tally.images - tally.unreadable
    said = f"{found or 'none'} of the {images} found together at a false-discovery rate of {100 * rate:g} %"
    if tally.moved:
        said += ", which need not hold as the images have moved away from the calibration's"
    said += f": {out / DISCOVERIES}"
    if found or not images or calibration.n >= (least := needed(rate / images)):
        return said
    return (
        f"{said}\nOne anomalous image among {images} is found with {least} normal images; {calibration.n} calibrated."
    )


def _suited(
    settings: PredictSettings,
    detector: "Detector | ExportedDetector",
    first: "Picture",
    calibration: "Calibration | None",
) -> tuple[int, int, str]:
    """How many images are scored together, how many threads decode, and what is to be said of what was measured.

    The detector is brought to its precision.
    """
    from cops_lightning.export.runtime import ExportedDetector
    from cops_lightning.inference.machine import decoding_threads, suited

    if isinstance(detector, ExportedDetector):
        if settings.precision not in ("auto", detector.precision):
            raise ConfigError(f"{settings.checkpoint} computes in {detector.precision}. Leave out precision=.")
        return 1, 2 if settings.workers == "auto" else settings.workers, ""
    chosen, said = suited(detector, settings.precision, calibration)
    batch = chosen.batch_size if settings.batch_size == "auto" else settings.batch_size
    workers = decoding_threads(detector, first) if settings.workers == "auto" else settings.workers
    return 1 if detector.device.type == "cpu" else batch, workers, said


def _decides(sources: list[str], settings: PredictSettings, detector: "Detector | ExportedDetector") -> dict[str, Any]:
    """All that decides the rows."""
    from cops_lightning.core.hashes import sha256_of
    from cops_lightning.export.description import ExportError
    from cops_lightning.export.formats import parts_of
    from cops_lightning.export.runtime import ExportedDetector

    exported = isinstance(detector, ExportedDetector)
    return {
        **_said_of(sources, settings),
        **asdict(detector.identity(settings.draws, settings.category)),
        "file": [sha256_of(part, ExportError) for part in parts_of(settings.checkpoint)] if exported else None,
    }


def _said_of(sources: list[str], settings: PredictSettings) -> dict[str, Any]:
    """What decides the rows, as far as the command alone says it."""
    from cops_lightning.core.errors import CalibrationError
    from cops_lightning.core.hashes import sha256_of

    own = ("draws", "category", "threshold", "map_threshold", "regions", "heatmaps", "masks")
    calibration = settings.calibration
    return {
        "sources": sources,
        "calibration": None if calibration is None else sha256_of(calibration, CalibrationError),
        **{key: getattr(settings, key) for key in own},
    }


def _require_place(sources: list[str], out: Path) -> None:
    """Raise CopsError where a source holds a password, heat maps would be read as images, or OUT lies in a run."""
    from cops_lightning.data.readers.pictures import folders_read
    from cops_lightning.data.readers.remote import require_no_password, without_scheme
    from cops_lightning.inference.folder import HEATMAPS, MASKS

    require_no_run("out", out)
    for source in sources:  # which the sentences below would quote
        require_no_password(source)
    local = [without_scheme(source) for source in sources]
    require_apart("out", out, (folder for source in local for folder in folders_read(source)))
    for source, kind in product(filter(None, local), (HEATMAPS, MASKS)):
        require_apart("a source", Path(source), [out / kind], "which this command writes")


if __name__ == "__main__":
    sys.exit(main())
