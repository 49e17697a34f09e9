"""Timing two ways of doing one work in turns, with their memory, their operations and the machine's peak."""

import ctypes
import gc
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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from cops_lightning.clip.image_encoder import Linear, onednn_product, onednn_takes, pack

Outputs = tuple[Tensor, ...]
PEAK_REPEATS = 5
# Side of the square matrices whose product gives the peak: large enough to be bound by arithmetic.
PEAK_SIDE = {"cpu": 2048, "cuda": 8192}
STATUS, CLEAR_REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Way:
    """One way of doing a work. `run` computes everything anew at each call and returns what it computed."""

    name: str
    run: Callable[[], Outputs]


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
    for key, way in ways.items():
        tick(f"{way.name}, warming up")
        results[key] = _weigh(way, device)
    for repeat in range(repeats):
        for key, way in ways.items():
            tick(f"{way.name}, {repeat + 1} of {repeats}")
            results[key].seconds.append(_time(way.run, device))
        if time.perf_counter() - began > budget:
            break
    return results


def _weigh(way: Way, device: torch.device) -> Measured:
    """The first call: outputs, operations and peak memory."""
    result = Measured()
    counter = OperationCounter()
    with _peak_memory(result, device), counter:
        result.outputs = tuple(output.detach() for output in way.run())
    result.flops = counter.total
    return result


def _time(run: Callable[[], Outputs], device: torch.device) -> float:
    gc.collect()
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1000
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


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


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts a multiplication and an addition as two operations, in products, convolutions and attention alone.

    By torch's own formulas; those of attention on a CPU and of oneDNN's linear layer are added. `FlopCounterMode`,
    which also counts per module, fails on modules that are called without gradients.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif (own := OWN_FORMULAS.get(str(packet))) is not None:
            self.total += own(*args)
        return out


def _attention_flops(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))  # type: ignore[no-untyped-call]


def _attention_backward_flops(_gradient: Tensor, *of_forward: Any) -> int:
    # Five products of the sizes of the forward pass's two: the weights again, and two gradients for each product.
    return _attention_flops(*of_forward) * 5 // 2


def _linear_flops(x: Tensor, weight: Tensor, *_: Any) -> int:
    return 2 * x.numel() * weight.shape[0]


OWN_FORMULAS: dict[str, Callable[..., int]] = {
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention_flops,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward_flops,
    "mkldnn._linear_pointwise": _linear_flops,
}


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of the fastest large matrix product here: torch's own, or on a CPU oneDNN's."""
    side = PEAK_SIDE.get(device.type, PEAK_SIDE["cpu"])
    x, weight = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    ways: list[Callable[[], Outputs]] = [lambda: (F.linear(x, weight),)]
    if device.type == "cpu" and onednn_takes(dtype):
        layer = Linear(pack(weight), torch.zeros(side, dtype=dtype))
        ways.append(lambda: (onednn_product(x, layer),))
    with torch.no_grad():
        for way in ways:
            way()
        fastest = min(_time(way, device) for _ in range(PEAK_REPEATS) for way in ways)
    return 2 * side**3 / fastest


def largest_difference(first: Outputs, second: Outputs) -> float:
    """Largest absolute difference between outputs of two ways."""
    return max(float((a.double().cpu() - b.double().cpu()).abs().max()) for a, b in zip(first, second, strict=True))
