"""Result folders of studies that never ran, with differences that the tests know."""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cops_lightning.callbacks.diagnostics import DRAW_COLUMNS
from cops_lightning.core.measured import MEAN, MetricRow
from cops_lightning.report.tables import ResultRow, Run, write_results

METRICS = (("image", "auroc"), ("image", "ap"), ("image", "f1_max"), ("pixel", "auroc"), ("pixel", "aupro"))
TARGETS = tuple(f"target{number}" for number in range(7))


def write_run(
    folder: Path,
    values: Mapping[str, float | Sequence[float]],
    variant: str = "cops",
    seed: int = 0,
    auxiliary: str = "visa",
    status: str = "done",
    backbone: str = "ViT-B-16",
    study: str = "made_up",
    images: int = 20,
    scores: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """One run folder: `values` are, per target, the value of all metrics or of each of METRICS. `scores` gives
    scores.csv a margin per target.

    The method is the hash of `settings`; by default a variant is a method.
    """
    settings = {"ablation": variant} if settings is None else settings
    method = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    run = Run(f"{variant}{seed}", method, study, variant, seed, auxiliary)
    rows = [
        ResultRow(run, MetricRow(target, category, level, metric, float(np.clip(value, 0, 1)), images, images))
        for target, of_target in values.items()
        for category in ("part", MEAN)
        for (level, metric), value in zip(METRICS, np.broadcast_to(of_target, len(METRICS)), strict=True)
    ]
    write_results(folder / "results.csv", rows)
    record = {
        "run_id": run.run_id,
        "method": method,
        "method_settings": settings,
        "status": status,
        "started": f"2026-01-01T00:00:{seed:02}+00:00",
        "backbone": {"name": backbone, "fingerprint": "f" * 64, "origin": "file clip.pt"},
    }
    (folder / "run.json").write_text(json.dumps(record))
    if scores:
        _write_scores(folder / "scores.csv", scores, images, seed)
    return folder


def _write_scores(path: Path, margins: Mapping[str, float], images: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("target", "category", "defect", "image", "label", "score"))
        for target, margin in margins.items():
            for number in range(2 * images):
                label = number % 2
                score = 1 / (1 + np.exp(-rng.normal(margin * label)))
                writer.writerow((target, "part", "d", f"{target}/{number}", label, repr(float(score))))


def write_study(
    folder: Path, effects: Mapping[str, float], seeds: int = 5, targets: Sequence[str] = TARGETS, spread: float = 0.01
) -> Path:
    """A run per variant and seed. A target's value is its own level, plus the variant's effect, plus noise."""
    rng = np.random.default_rng(0)
    for variant, effect in effects.items():
        for seed in range(seeds):
            values = {
                target: 0.7 + 0.02 * number + effect + rng.normal(0, spread) for number, target in enumerate(targets)
            }
            write_run(
                folder / f"{variant}-{seed}",
                values,
                variant,
                seed,
                scores=dict.fromkeys(targets, 2 + 30 * effect),
            )
    return folder


def write_diagnostics(folder: Path, auxiliary: str, targets: Sequence[str], seed: int, collapsed: bool = False) -> None:
    """The three files that diagnostics leave in a run folder."""
    rng = np.random.default_rng(seed)
    d, n = 32, 40
    kl = np.sort(rng.exponential(0 if collapsed else 0.4, d))[::-1]
    active = 0 if collapsed else d
    names = [auxiliary, *targets]
    health = {
        "recon_weight": 1.0,
        "n": n * len(names),
        "reconstruction": {name: 0.5 + 0.1 * i for i, name in enumerate(names)},
        "kl": kl.tolist(),
        "active_units": active,
        "gap": (kl / 2).tolist(),
        "token_spread": 0.2,
        "text_spread": dict.fromkeys(names, 0.03),
        "score_spread": dict.fromkeys(names, 0.01),
        "projection": {
            "explained": [0.4, 0.2],
            "points": {name: rng.normal(i, 1, (n, 2)).tolist() for i, name in enumerate(names)},
        },
    }
    (folder / "vae_health.json").write_text(json.dumps(health))
    shift = {}
    for i, target in enumerate(targets):
        figures = {
            "n_a": n,
            "n_b": n,
            "d": d,
            "frechet": 0.1 * (i + 1),
            "floor": 0.05,
            "mmd": 0.02 * i,
            "mmd_p": 0.002,
            "mmd_why": "",
        }
        shift[target] = dict.fromkeys(("image", "patch"), figures | {"centroid_cosine": 0.99 - 0.01 * i})
    (folder / "domain_shift.json").write_text(json.dumps({"auxiliary": auxiliary, "targets": shift}))
    with (folder / "latent_draws.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(DRAW_COLUMNS)
        for i, target in enumerate(targets):
            for draw in range(3):
                value = min(1.0, 0.7 + 0.02 * i + 0.01 * seed + rng.normal(0, 0.003))
                writer.writerow(("x", "m", "s", "cops", seed, auxiliary, target, draw, "image", "auroc", value))
