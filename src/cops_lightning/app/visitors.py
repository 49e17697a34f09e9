"""What each browser tab has uploaded and calibrated: in memory, and in a folder that goes with the server."""

import secrets
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import tifffile
from PIL import Image

from cops_lightning.app.judge import Judge, Values, ruled, verdict
from cops_lightning.calibration.calibration import Calibration
from cops_lightning.calibration.drift import DriftWatch
from cops_lightning.core.errors import CopsError, excerpt
from cops_lightning.data.readers.images import ReadingError
from cops_lightning.data.readers.pictures import Picture, pictures
from cops_lightning.data.readers.tree import IMAGE_SUFFIXES
from cops_lightning.data.stream import Unreadable
from cops_lightning.models.prediction import Prediction

VIEW, THUMB = 1200, 160  # longest side of what the page shows, in pixels
WINDOW = 10  # images that are compared together with those of a calibration: of few that a tab has, few at a time
MEGA = 10**6
LONGEST_NAME = 120
ADVICE = " Replace the file."  # which an upload has none of


@dataclass(frozen=True)
class Limits:
    """What the server accepts.

    Args:
        megabytes: of one upload.
        megapixels: of one image, by its header, before it is decoded.
        images: that a tab may have at once; and as many normal ones to calibrate with.
        visitors: tabs that are remembered; the one that was idle for longest goes first.
        total_megabytes: of all uploads together; idle tabs go first here too.
    """

    megabytes: int = 20
    megapixels: int = 50
    images: int = 200
    visitors: int = 16
    total_megabytes: int = 2000


class LimitError(CopsError):
    """More than the server accepts."""


@dataclass
class Shown:
    """An image of a tab, with what every detector says of it."""

    id: str
    name: str
    folder: Path
    size: tuple[int, int]
    predictions: list[Prediction]

    @property
    def path(self) -> Path:
        """The upload."""
        path = self.predictions[0].picture.path
        assert isinstance(path, Path)
        return path

    @property
    def view(self) -> Path:
        """The image as large as the page shows it."""
        return self.folder / f"{self.id}-view.jpg"

    @property
    def view_size(self) -> tuple[int, int]:
        """Its width and height."""
        with Image.open(self.view) as image:
            return image.size

    @property
    def thumb(self) -> Path:
        """A small copy."""
        return self.folder / f"{self.id}-thumb.jpg"


@dataclass
class Visitor:
    """A tab. Its lock is held by whoever changes it."""

    token: str
    folder: Path
    judges: Sequence[Judge]
    level: float
    images: dict[str, Shown] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)  # names of files, and why they are no images
    normal: list[list[Prediction]] = field(default_factory=list)  # of each normal image, by every detector
    calibrations: list[Calibration | None] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.recalibrate()

    def recalibrate(self) -> None:
        """Work out the calibration of every detector, at the level: of the tab's own images, else the given one."""
        self.calibrations = [
            judge.calibrated((of[number] for of in self.normal), self.level)
            if self.normal
            else judge.calibration and judge.calibration.at(self.level)
            for number, judge in enumerate(self.judges)
        ]

    def prediction(self, shown: Shown, number: int) -> Prediction:
        """What a detector says under the calibration of now."""
        return ruled(shown.predictions[number], self.calibrations[number])

    def drift(self, number: int) -> str | None:
        """That the images have moved away from those of a detector's calibration, with the evidence; None if not.

        Only whole windows are compared, so that the same images are never tested again as further ones come.
        """
        calibration = self.calibrations[number]
        if calibration is None or calibration.features is None:
            return None
        watch = DriftWatch(calibration.features, WINDOW)
        for shown in list(self.images.values()):
            feature = shown.predictions[number].feature
            if feature is not None and (found := watch.add(shown.name, calibration.features.distance_of(feature))):
                return str(found)
        return None

    def card(self, shown: Shown) -> Values:
        """What the page lists of an image."""
        given = enumerate(self.calibrations)
        return {
            "id": shown.id,
            "name": shown.name,
            "width": shown.size[0],
            "height": shown.size[1],
            "verdicts": [verdict(self.prediction(shown, number), calibration) for number, calibration in given],
        }

    def about(self) -> Values:
        """All that the page shows of a tab."""
        return {
            "images": [self.card(shown) for shown in list(self.images.values())],
            "level": self.level,
            "normal": len(self.normal),
            "calibrations": [_said(calibration) for calibration in self.calibrations],
            "drift": [self.drift(number) for number in range(len(self.judges))],
        }

    def remove(self, gone: Sequence[Shown]) -> None:
        """Forget images; an upload's file goes with the last of its pages."""
        with self.lock:
            for shown in gone:
                self.images.pop(shown.id, None)
                shown.view.unlink(missing_ok=True)
                shown.thumb.unlink(missing_ok=True)
            used = {shown.path for shown in self.images.values()}
            for path in {shown.path for shown in gone} - used:
                path.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes in its folder."""
        found = 0
        for file in self.folder.iterdir():
            with suppress(FileNotFoundError):  # removed since it was listed
                found += file.stat().st_size
        return found


def _said(calibration: Calibration | None) -> Values | None:
    if calibration is None:
        return None
    return {
        "images": calibration.n,
        "needed": calibration.needed,
        "repeated": calibration.repeated,
        "threshold": calibration.threshold,
        "shortage": calibration.shortage,
        "watched": calibration.features is not None,
    }


class Visitors:
    """All tabs, within the limits.

    Args:
        folder: where their files lie.
        judges: the detectors.
        limits: what is accepted.
        level: the false-alarm rate that a tab begins with.
    """

    def __init__(self, folder: Path, judges: Sequence[Judge], limits: Limits, level: float) -> None:
        self.folder, self.judges, self.limits, self.level = folder, judges, limits, level
        self._tabs: dict[str, Visitor] = {}  # the one that was idle for longest first
        self._lock = threading.Lock()

    def new(self) -> Visitor:
        """A tab that has nothing yet."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            while len(self._tabs) >= self.limits.visitors:
                self._forget(next(iter(self._tabs)))
            self._tabs[token] = Visitor(token, self.folder / token, self.judges, self.level)
            return self._tabs[token]

    def find(self, token: str) -> Visitor | None:
        """The tab of a token; None where it was forgotten."""
        with self._lock:
            found = self._tabs.pop(token, None)
            if found is not None:
                self._tabs[token] = found
            return found

    def require_room(self, visitor: Visitor) -> None:
        """Raise LimitError where no upload of this tab can be kept; idle tabs are forgotten first."""
        with self._lock:
            sizes = {token: tab.size() for token, tab in self._tabs.items()}
            for token in list(sizes):
                if sum(sizes.values()) < self.limits.total_megabytes * MEGA:
                    return
                if token != visitor.token:
                    self._forget(token)
                    del sizes[token]
            if sum(sizes.values()) >= self.limits.total_megabytes * MEGA:
                raise LimitError(f"{self.limits.total_megabytes} MB of images are kept already. Remove some first.")

    def add(self, visitor: Visitor, path: Path, name: str) -> list[Shown]:
        """Judge the images of an upload, which lies at `path`, and keep them.

        Raises ReadingError where one cannot be read, and LimitError where there are too many; then none is kept.
        """
        with visitor.lock:
            found = self._pictures(path, name, self.limits.images - len(visitor.images))
            try:
                predicted = self._predicted(found)
            except ReadingError as error:
                visitor.failures.append((name, str(error)))
                raise
            shown = []
            for picture, predictions in zip(found, predicted, strict=True):
                one = Shown(secrets.token_hex(8), picture.name, visitor.folder, predictions[0].size, predictions)
                _save_small(picture, one)
                visitor.images[one.id] = one
                shown.append(one)
            return shown

    def add_normal(self, visitor: Visitor, path: Path, name: str) -> None:
        """Take the images of an upload as normal ones; the file itself is not kept."""
        with visitor.lock:
            found = self._pictures(path, name, self.limits.images - len(visitor.normal))
            visitor.normal += self._predicted(found)
            visitor.recalibrate()
            path.unlink()

    def _pictures(self, path: Path, name: str, room: int) -> list[Picture]:
        found = [replace(one, name=name + one.name.removeprefix(str(path))) for one in islice(pictures(path), room + 1)]
        if len(found) > room:
            raise LimitError(f"{name} is more than the {self.limits.images} images that are kept. Remove some first.")
        for picture in found:
            try:
                width, height = header_size(path, picture.page)
            except Image.DecompressionBombError:
                raise LimitError(
                    f"{picture.name} has many more than the {self.limits.megapixels} megapixels that are accepted."
                ) from None
            if width * height > self.limits.megapixels * MEGA:
                raise LimitError(
                    f"{picture.name} has {width * height / MEGA:.0f} megapixels; at most {self.limits.megapixels} are "
                    "accepted. Make it smaller."
                )
        return found

    def _predicted(self, found: Sequence[Picture]) -> list[list[Prediction]]:
        """By image, then by detector. Raises ReadingError where one cannot be read, naming it as the user does."""
        by_judge = []
        for judge in self.judges:
            kept = []
            for picture, outcome in zip(found, judge.predictions(found), strict=True):
                if isinstance(outcome, Unreadable):
                    raise ReadingError(outcome.reason.replace(str(picture.path), picture.name).removesuffix(ADVICE))
                outcome.size  # noqa: B018  # known from now on
                kept.append(ruled(outcome, None))
            by_judge.append(kept)
        return [list(of_image) for of_image in zip(*by_judge, strict=True)]

    def _forget(self, token: str) -> None:
        shutil.rmtree(self._tabs.pop(token).folder, ignore_errors=True)


def upload_path(folder: Path, name: str) -> Path:
    """Where an upload is kept: under a name of ours, with its suffix if it is that of an image."""
    suffix = Path(name).suffix.lower()
    return folder / f"{secrets.token_hex(8)}{suffix if suffix.removeprefix('.') in IMAGE_SUFFIXES else '.upload'}"


def shown_name(name: str) -> str:
    """An upload's name as it is shown: the last component, short, without what is not printable."""
    return excerpt(name.replace("\\", "/").rpartition("/")[2], LONGEST_NAME) or "image"


def header_size(path: Path, page: int = 0) -> tuple[int, int]:
    """Width and height as the file says, before anything is decoded; zeros where it does not.

    Raises DecompressionBombError for more pixels than Pillow opens.
    """
    for read in (_pillow_size, _tiff_size):
        try:
            return read(path, page)
        except Image.DecompressionBombError:
            raise
        except Exception:  # which is said when the image is read
            continue
    return 0, 0


def _pillow_size(path: Path, page: int) -> tuple[int, int]:
    with Image.open(path) as image:
        image.seek(page)
        return image.size


def _tiff_size(path: Path, page: int) -> tuple[int, int]:
    with tifffile.TiffFile(path) as file:
        found = file.pages[page]
        return int(found.imagewidth), int(found.imagelength)  # type: ignore[union-attr]


def _save_small(picture: Picture, shown: Shown) -> None:
    image = picture.open()
    for side, path in ((VIEW, shown.view), (THUMB, shown.thumb)):
        image.thumbnail((side, side))
        image.save(path, "JPEG", quality=90)
