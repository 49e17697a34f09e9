"""`cops-app`: a page on this machine to drop images into, with scores, heat maps, verdicts and calibration."""

import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le, Lt

from cops_lightning.cli.words import DetectorSettings, WordsCommand, detector_of
from cops_lightning.core.choices import Precision
from cops_lightning.core.errors import ConfigError, reason, require_modules
from cops_lightning.core.files import temporary_folder
from cops_lightning.report.needs import NEEDS

if TYPE_CHECKING:
    from cops_lightning.app.judge import Judge

MORE = """\
examples:
  cops-app                                       rendered images and the packaged demonstration detector
  cops-app checkpoint=RUN/checkpoints/last.ckpt calibration=calibration.json
  cops-app checkpoint=cops.ckpt second=anomalyclip.ckpt       two detectors, side by side
  cops-app runs=runs/ablations                   browse runs too, the worst errors first

It needs the pip extra app. The page is for this machine alone: it listens on 127.0.0.1, and what is uploaded lies in a
temporary folder that is removed when the command ends (Ctrl-C)."""


@dataclass(frozen=True, kw_only=True)
class AppSettings(DetectorSettings):
    """A page in the browser: drop images, see what is anomalous, where and why, and calibrate.

    Args:
        checkpoint: the trained detector, as of cops-train, or a .pth in the authors' format; default: the packaged one.
        second: another checkpoint to compare with, over the same backbone settings.
        calibration: file of cops-calibrate for the detector of checkpoint.
        level: the false-alarm rate to begin with.
        precision: of the image encoder; auto is that of the calibration, or fp32 unless this machine is more than 1.2
            times as fast in half precision and no score of a measurement, made once, changes by more than 0.0001.
        runs: a run folder, or one of several, to browse.
        port: where the page is: http://127.0.0.1:PORT; 0 takes a free one.
        max_megabytes: largest upload.
        max_megapixels: largest image.
        max_images: images that a browser tab may have at once.
    """

    checkpoint: Path | None = None  # type: ignore[assignment]
    second: Path | None = None
    calibration: Path | None = None
    level: Annotated[float, Ge(1e-9), Lt(1)] = 0.05
    precision: Precision | Literal["auto"] = "auto"
    runs: Path | None = None
    port: Annotated[int, Ge(0), Le(65535)] = 7860
    max_megabytes: Annotated[int, Ge(1)] = 20
    max_megapixels: Annotated[int, Ge(1)] = 50
    max_images: Annotated[int, Ge(1)] = 200


COMMAND = WordsCommand("cops-app", AppSettings, more=MORE)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    return COMMAND.main(argv, lambda _, settings: serve(settings))


def serve(settings: AppSettings) -> int:
    """Load the detectors, say where the page is, and answer until Ctrl-C."""
    require_modules("cops-app", "app", ("starlette", "uvicorn", *NEEDS))
    import uvicorn

    from cops_lightning.app.demonstration import examples  # torch takes seconds
    from cops_lightning.app.failures import Study
    from cops_lightning.app.server import Site
    from cops_lightning.app.visitors import Limits

    study = None if settings.runs is None else Study(settings.runs)
    limits = Limits(settings.max_megabytes, settings.max_megapixels, settings.max_images)
    shown = examples() if settings.checkpoint is None else ()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder is removed
    with _bound(settings.port) as bound, temporary_folder("cops-app") as folder:
        print("Loading the detector.", flush=True)
        site = Site(judges(settings), folder, shown, study, limits, settings.level)
        server = uvicorn.Server(
            uvicorn.Config(
                site.app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
            )
        )
        print(f"The page is at http://127.0.0.1:{bound.getsockname()[1]} (Ctrl-C ends it).", flush=True)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a terminal that is closed, unless by nohup
            signal.signal(signal.SIGHUP, lambda *_: server.handle_exit(signal.SIGTERM, None))
        with suppress(KeyboardInterrupt):
            server.run([bound])
    return 0


def judges(settings: AppSettings) -> list["Judge"]:
    """The detectors of the settings, in the precision that suits, with the calibration given or the demonstration's."""
    from cops_lightning.app.demonstration import load_demonstration, normal_images
    from cops_lightning.app.judge import Judge
    from cops_lightning.calibration.calibration import Calibration
    from cops_lightning.core.devices import find_device
    from cops_lightning.data.readers.pictures import pictures
    from cops_lightning.inference.machine import suited

    if settings.checkpoint is None:
        needless = [key for key in ("backbone", "auxiliary", "weights") if getattr(settings, key) is not None]
        if needless and settings.second is None:
            raise ConfigError(f"{needless[0]} says of checkpoint= what it is, and none is given. Leave it out.")
        first = Judge("demonstration", load_demonstration(find_device(settings.device)))
    else:
        first = Judge(_name(settings.checkpoint), detector_of(settings), method=_method(settings.checkpoint))
    given = None if settings.calibration is None else Calibration.read(settings.calibration)
    said = [suited(first.detector, settings.precision, given)[1]]
    if given is not None:
        first.calibration = given
        first.calibration.require(first.detector.identity(), str(settings.calibration))
    elif settings.checkpoint is None:
        first.calibration = first.calibrated(first.scored(pictures(normal_images())), settings.level)
    found = [first]
    if settings.second is not None:
        name = _name(settings.second)
        other = detector_of(replace(settings, checkpoint=settings.second))
        said.append(suited(other, settings.precision)[1])
        name = f"{name} (second)" if name == first.name else name
        found.append(Judge(name, other, method=_method(settings.second)))
    for line in filter(None, said):
        print(line, flush=True)
    return found


def _name(path: Path) -> str:
    """What the page calls a checkpoint: its run, or its file."""
    path = path.absolute()
    return path.parent.parent.name if path.parent.name == "checkpoints" else path.stem


def _method(path: Path) -> str:
    """The variant that a checkpoint records: ablations and baselines of prompts share the class CoPS."""
    from cops_lightning.models.checkpoint import read_checkpoint

    saved = read_checkpoint(path).saved
    return "" if saved is None else str(saved.run.get("variant", ""))


def _bound(port: int) -> socket.socket:
    """A socket on this machine alone."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
    except OSError as error:
        found.close()
        raise ConfigError(
            f"Port {port} cannot be had ({reason(error)}). Give another, as port=7861, or port=0 for any free one."
        ) from None
    return found


if __name__ == "__main__":
    sys.exit(main())
