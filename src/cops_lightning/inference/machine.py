"""What suits this machine: the precision of the encoder and the size of batches, by a short measurement."""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from cops_lightning.calibration import Calibration
from cops_lightning.clip.request import DEFAULT
from cops_lightning.core.choices import Precision
from cops_lightning.core.errors import reason
from cops_lightning.core.files import cache_folder, read_whole, writing
from cops_lightning.core.hashes import settings_hash
from cops_lightning.core.reporting import warn
from cops_lightning.core.seeding import FIXED, named_generator
from cops_lightning.core.types import Images
from cops_lightning.data.readers.pictures import Picture
from cops_lightning.data.stream import decoded
from cops_lightning.models.detector import Detector

MEMORY = "machine.json"  # in the cache folder
FASTER = 1.2  # times as fast as fp32 a precision must be to be chosen
BOUND = 1e-4  # by which it may change a score of the measurement: as much as an exported file may
IMAGES, REPEATS = 4, 3
BATCHES = (1, 2, 4, 8, 16, 32)  # on a GPU; on a CPU no score depends on a batch, as there is one image in each
ENOUGH = 0.95  # of the highest throughput: the smallest batch that reaches it is taken
MOST_THREADS = 8
HALF_ON_CPU = ("avx512_bf16", "amx_bf16", "amx_tile")  # one of these a CPU needs to be fast in bf16

Tick = Callable[[], float]


@dataclass(frozen=True)
class Choice:
    """What was chosen, and the measurement behind it.

    Args:
        precision: of the image encoder.
        batch_size: images that are scored together.
        speed: how many times as fast as in fp32 the encoder is, by precision; what cannot be computed here is absent.
        change: the largest change of a score against fp32, likewise.
    """

    precision: Precision
    batch_size: int
    speed: Mapping[Precision, float]
    change: Mapping[Precision, float]

    def __str__(self) -> str:
        others = [name for name in self.speed if name != "fp32"]
        said = [f"{name} is {self.speed[name]:.2f} times as fast as fp32 here" for name in others]
        changes = [f" and changes scores by up to {self.change[name]:.1g}" for name in others]
        said = [text + change for text, change in zip(said, changes, strict=True)]
        return f"precision={self.precision}, batch_size={self.batch_size}" + (f": {'; '.join(said)}" if said else "")


def choose(detector: Detector, precision: Precision | None = None, timer: Tick = time.perf_counter) -> Choice:
    """What suits `detector` on this machine, which is left in that precision; remembered in the cache folder.

    A precision other than fp32 is chosen where it is more than FASTER times as fast and changes no score of the
    measurement by more than BOUND. `precision` settles it: then only the batch is measured, and a precision that is
    slower than fp32 here is warned of.
    """
    device, settled = detector.device, precision
    candidates = possible(device) if settled is None else tuple(dict.fromkeys(("fp32", settled)))
    if candidates == ("fp32",) and device.type == "cpu":
        found = Choice("fp32", 1, {}, {})
    else:
        key = _key(detector, device, settled)
        memory = _read(cache_folder() / MEMORY)
        found = _remembered(memory.get(key)) or _measured(detector, device, candidates, settled, timer)
        _remember(memory, key, found)
    detector.backbone.use_precision(found.precision)
    if settled is not None and (speed := found.speed.get(settled, 1.0)) < 1 and settled != "fp32":
        warn(f"precision={settled} computes at {speed:.2f} times the speed of fp32 on this machine; fp32 is faster.")
    return found


def suited(
    detector: Detector, asked: Precision | Literal["auto"], calibration: Calibration | None = None
) -> tuple[Choice, str]:
    """`choose` for what is asked, and what is to be said of the measurement; "" where it changed nothing.

    "auto" is the precision of a calibration, one that the checkpoint states, or else what is measured.
    """
    settled = None if asked == "auto" else asked
    if settled is None and calibration is not None:
        settled = cast(Precision, calibration.identity.precision)
    elif settled is None and detector.backbone.precision != "fp32":
        settled = detector.backbone.precision
    chosen = choose(detector, settled)
    return chosen, str(chosen) if chosen.precision != "fp32" and settled is None else ""


def decoding_threads(detector: Detector, first: Picture, timer: Tick = time.perf_counter) -> int:
    """How many threads decode as fast as the detector scores, by one image; the scores do not depend on it."""
    began = timer()
    for _ in decoded([first], detector.image_size, 0):
        pass
    middle = timer()
    seen = torch.zeros(1, 3, detector.image_size, detector.image_size)
    detector.score(seen.to(detector.device), names=[FIXED]).image.cpu()
    return max(1, min(MOST_THREADS, os.cpu_count() or 1, math.ceil((middle - began) / max(timer() - middle, 1e-9))))


def possible(device: torch.device) -> tuple[Precision, ...]:
    """The precisions that are worth a measurement: on a CPU bf16 only where the CPU computes in it."""
    if device.type != "cpu":
        return get_args(Precision)
    return ("fp32", "bf16") if set(HALF_ON_CPU) & cpu_flags() else ("fp32",)


def cpu_flags() -> frozenset[str]:
    """What the CPU says that it can do; nothing where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def _key(detector: Detector, device: torch.device, settled: Precision | None) -> str:
    """What the measurement holds for: the machine, the libraries and the detector."""
    cpu = f"{platform.machine()} {sorted(cpu_flags())}"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return settings_hash(
        {
            "rule": [FASTER, BOUND],
            "machine": [device.type, where, os.cpu_count(), torch.get_num_threads()],
            "torch": torch.__version__,
            "detector": {**asdict(detector.identity()), "precision": settled},
        }
    )


def _measured(
    detector: Detector, device: torch.device, candidates: tuple[Precision, ...], settled: Precision | None, timer: Tick
) -> Choice:
    images = torch.randn(IMAGES, 3, detector.image_size, detector.image_size, generator=named_generator(0, "machine"))
    images = images.to(device)
    seconds: dict[Precision, float] = {}
    scores: dict[Precision, Tensor] = {}
    for name in candidates:
        detector.backbone.use_precision(name)
        try:
            scores[name] = _scores(detector, images)
            seconds[name] = statistics.median(_time(detector, images[:1], timer) for _ in range(REPEATS))
        except (RuntimeError, NotImplementedError) as error:  # of a product that this build of torch lacks
            if name == "fp32":
                raise
            warn(f"precision={name} cannot be used here ({reason(error)}).")
    speed = {name: seconds["fp32"] / taken for name, taken in seconds.items()}
    change = {name: float((found - scores["fp32"]).abs().max()) for name, found in scores.items()}
    fit = [name for name in seconds if name == "fp32" or (speed[name] > FASTER and change[name] <= BOUND)]
    best: Precision = max(fit, key=lambda name: speed[name]) if settled is None else settled
    detector.backbone.use_precision(best)
    batch = 1 if device.type == "cpu" else _batch(detector, images, timer)
    return Choice(best, batch, speed, change)


def _scores(detector: Detector, images: Images) -> Tensor:
    return torch.cat([detector.score(image[None], names=[FIXED]).image.float().cpu() for image in images])


def _time(detector: Detector, images: Images, timer: Tick) -> float:
    began = timer()
    detector.backbone.encode_image(images, getattr(detector, "request", DEFAULT)).image.cpu()  # waits for a GPU
    return timer() - began


def _batch(detector: Detector, images: Images, timer: Tick) -> int:
    """The smallest batch whose throughput is nearly the highest; sizes that do not fit into memory are left out."""
    rates: dict[int, float] = {}
    for size in BATCHES:
        batch = images[:1].expand(size, -1, -1, -1).contiguous()
        try:
            _time(detector, batch, timer)
            rates[size] = size / statistics.median(_time(detector, batch, timer) for _ in range(REPEATS))
        except torch.OutOfMemoryError:
            break
    return next((size for size, rate in rates.items() if rate >= ENOUGH * max(rates.values())), 1)


def _read(path: Path) -> dict[str, Any]:
    """What is remembered; nothing where that cannot be read."""
    try:
        content = json.loads(read_whole(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remembered(entry: Any) -> Choice | None:
    try:
        found = Choice(**entry)
        fits = found.precision in get_args(Precision) and found.batch_size >= 1 and str(found)
    except (TypeError, ValueError, AttributeError, KeyError):
        return None
    return found if fits else None


def _remember(memory: dict[str, Any], key: str, found: Choice) -> None:
    if memory.get(key) == (entry := asdict(found)):
        return
    try:
        with writing(cache_folder() / MEMORY) as file:
            json.dump({**memory, key: entry}, file, indent=2)
    except OSError:  # a memory that cannot be written costs time alone
        return
