"""Works measured one after the other, as rows and as a table."""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from rich import box
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cops_lightning.benchmark.measure import largest_difference, matrix_peak, measure
from cops_lightning.benchmark.works import BASELINE, WORKS, Setting
from cops_lightning.clip.weight_files import RANDOM
from cops_lightning.core.devices import find_device
from cops_lightning.core.files import replacing
from cops_lightning.core.reporting import console
from cops_lightning.core.types import DTYPES
from cops_lightning.models.build import build_backbone, find_node

Row = dict[str, Any]
"""One work as measured.

Seconds are medians for `batch` images; `ratio` is baseline_seconds / seconds. `flops` counts the operations of
products, convolutions and attention of our way; `fraction_of_peak` relates them per second to `peak_flops`, those
of a large matrix product of the same type, measured at the start. Bytes are peaks above what was held before, of
the process and of a CUDA device. None where there is no such thing.
"""


def bench(arguments: argparse.Namespace) -> Table:
    """Measure what `cops-bench` is asked for; see its --help."""
    rows: list[Row] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    shown = console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        task = progress.add_task("loading", total=None)
        for row in _measure(arguments, lambda what: progress.update(task, description=what)):
            rows.append(row)
            # After each work, so that what took minutes survives an interruption of the next.
            if arguments.json is not None:
                with replacing(arguments.json) as file:
                    file.write_text(json.dumps(rows, indent=2) + "\n")
    return _table(rows)


def _measure(arguments: argparse.Namespace, tick: Callable[[str], None]) -> Iterator[Row]:
    setting = _setting(arguments)
    peak_of = cache(lambda precision: matrix_peak(DTYPES[precision], setting.device))
    for name in arguments.works:
        work = WORKS[name]
        batch, precision = arguments.batch or work.batch, work.precision or setting.precision
        tick(f"{precision} matrix products")
        peak = peak_of(precision)
        ways = {key: way for key, way in work.prepare(setting, batch).items() if arguments.baseline or key != BASELINE}

        def tell(what: str, work: str = name) -> None:
            tick(f"{work}: {what}")

        measured = measure(ways, setting.device, arguments.repeats, arguments.budget, tell)
        baseline = measured.pop(BASELINE, None)
        for key, ours in measured.items():
            yield {
                "work": key,
                "backbone": arguments.backbone,
                "precision": precision,
                "batch": batch,
                "ratio": baseline.median / ours.median if baseline else None,
                "seconds": ours.median,
                "baseline_seconds": baseline.median if baseline else None,
                "fraction_of_peak": ours.flops / ours.median / peak if ours.flops else None,
                "max_abs_difference": largest_difference(ours.outputs, baseline.outputs) if baseline else None,
                "peak_memory_bytes": ours.host_bytes,
                "baseline_peak_memory_bytes": baseline.host_bytes if baseline else None,
                "device_peak_memory_bytes": ours.device_bytes,
                "images_per_second": batch / ours.median,
                "flops": ours.flops,
                "baseline_flops": baseline.flops if baseline else None,
                "peak_flops": peak,
                "repeats": len(ours.seconds),
                "image_size": setting.image_size,
                "device": _device_name(setting.device),
                "torch": str(torch.__version__),
                "threads": torch.get_num_threads(),
            }


def _setting(arguments: argparse.Namespace) -> Setting:
    asked = {"image_size": arguments.image_size, "precision": arguments.precision, "compile": arguments.compile or None}
    node = find_node("backbone", arguments.backbone, *(f"backbone.{k}={v}" for k, v in asked.items() if v is not None))
    device = find_device(arguments.device)
    backbone = build_backbone({**node, "pretrained": RANDOM}).to(device)
    return Setting(backbone, backbone.image_size, backbone.precision, device)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def _table(rows: Sequence[Row]) -> Table:
    title = "{backbone}, {image_size} px, {device}, torch {torch}, {threads} threads".format_map(rows[0])
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.show_edge = False
    table.add_column("work", no_wrap=True)
    for heading in ("type", "images", "seconds", "baseline", "ratio", "of peak", "differs", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        memory = row["device_peak_memory_bytes"] or row["peak_memory_bytes"]
        table.add_row(
            row["work"],
            row["precision"],
            str(row["batch"]),
            f"{row['seconds']:.3g}",
            _shown(row["baseline_seconds"], "{:.3g}"),
            _shown(row["ratio"], "{:.2f}"),
            _shown(row["fraction_of_peak"], "{:.0%}"),
            _shown(row["max_abs_difference"], "{:.1e}"),
            _shown(memory and memory / 2**20, "{:.0f} MiB"),
        )
    return table


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
