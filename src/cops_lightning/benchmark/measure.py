"""Timing two ways of doing one work in turns, with their memory, their operations and the machine's peak."""

import ctypes
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.benchmark import timer
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from cops_lightning.clip.image_encoder import Linear, onednn_product, onednn_takes, pack

Outputs = tuple[Tensor, ...]
Shape = torch.Size
PEAK_REPEATS = 5
# Side of the square matrices whose product gives the peak: large enough to be bound by arithmetic.
PEAK_SIDE = {"cpu": 2048, "cuda": 8192}
STATUS, CLEAR_REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


Way = Callable[[], Outputs]
"""One way of doing a work: computes everything anew at each call and returns what it computed."""


@dataclass
class Measured:
    """What one way took: seconds of each repeat; operations and bytes above what was held, of its first call."""

    outputs: Outputs = ()
    seconds: list[float] = field(default_factory=list)
    flops: int = 0
    host_bytes: int | None = None
    device_bytes: int | None = None

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def measure(
    ways: Mapping[str, Way],
    device: torch.device,
    repeats: int,
    budget: float,
    tick: Callable[[str], None] = lambda _: None,
) -> dict[str, Measured]:
    """Call every way once to warm up and to be weighed, then all in turns, so that a busy machine slows all alike.

    The turns end after `repeats`, or with the first that ends later than `budget` seconds from the start. `tick` is
    called with what is about to run.
    """
    began = time.perf_counter()
    results = {}
    for name, way in ways.items():
        tick(f"{name}, warming up")
        results[name] = _weigh(way, device)
    for repeat in range(repeats):
        for name, way in ways.items():
            tick(f"{name}, {repeat + 1} of {repeats}")
            results[name].seconds.append(_time(way))
        if time.perf_counter() - began > budget:
            break
    return results


def _weigh(way: Way, device: torch.device) -> Measured:
    """The first call: outputs, operations and peak memory."""
    result = Measured()
    with _peak_memory(result, device), counted_operations() as counter:
        result.outputs = tuple(output.detach() for output in way())
    result.flops = counter.get_total_flops()
    return result


def _time(way: Way) -> float:
    gc.collect()
    began = timer()  # waits for the GPU
    way()
    return timer() - began


@contextmanager
def _peak_memory(result: Measured, device: torch.device) -> Iterator[None]:
    """Highest memory inside the block above that at its start: of the process (Linux only), and of a CUDA device."""
    gc.collect()
    _give_back_free_memory()
    host_before = _reset_host_peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        device_before = torch.cuda.memory_allocated(device)
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        result.device_bytes = torch.cuda.max_memory_allocated(device) - device_before
    if host_before is not None:
        result.host_bytes = max(0, _status_bytes("VmHWM") - host_before)


def _give_back_free_memory() -> None:
    # What the allocator keeps from earlier calls would hide what this one needs.
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _reset_host_peak() -> int | None:
    """Bytes held now, from which on the system records a new peak; None where it cannot."""
    try:
        CLEAR_REFERENCES.write_text("5")
        return _status_bytes("VmRSS")
    except OSError:
        return None


def _status_bytes(name: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {name}")


def _attention_flops(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(q, k, v))  # type: ignore[no-untyped-call]


def _attention_backward_flops(gradient: Shape, q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, q, k, v))  # type: ignore[no-untyped-call]


def _linear_flops(x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def counted_operations() -> FlopCounterMode:
    """Counts a multiplication and an addition as two operations, in products, convolutions and attention alone.

    By torch's own formulas; for those of attention on a CPU and of oneDNN's linear layer it has none.
    """
    formulas = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        formulas[torch.ops.mkldnn._linear_pointwise] = _linear_flops
    return FlopCounterMode(display=False, custom_mapping=formulas)


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of the fastest large matrix product here: torch's own, or on a CPU oneDNN's."""
    side = PEAK_SIDE.get(device.type, PEAK_SIDE["cpu"])
    x, weight = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    ways: list[Way] = [lambda: (F.linear(x, weight),)]
    if device.type == "cpu" and onednn_takes(dtype):
        layer = Linear(pack(weight), torch.zeros(side, dtype=dtype))
        ways.append(lambda: (onednn_product(x, layer),))
    with torch.no_grad():
        for way in ways:
            way()
        fastest = min(_time(way) for _ in range(PEAK_REPEATS) for way in ways)
    return 2 * side**3 / fastest


def largest_difference(first: Outputs, second: Outputs) -> float:
    """Largest absolute difference between outputs of two ways."""
    return max(float((a.double().cpu() - b.double().cpu()).abs().max()) for a, b in zip(first, second, strict=True))
