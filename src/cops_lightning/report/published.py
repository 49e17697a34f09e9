"""The authors' published numbers, and which runs may be compared with them."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

from cops_lightning.report.methods import flatten

SOURCE = "README of the authors' program (https://github.com/cqylunlun/CoPS), arXiv 2508.03447; one seed"
# What they were measured with, by the end of a setting's dotted key; these are the defaults of what a run leaves open.
SETTINGS = {
    "image_size": 518,
    "data.limit": None,
    "corruption": None,
    "corruption.kind": "none",
    **{f"components.{name}": True for name in ("states", "classes", "spatial_weights", "deep_prompts")},
    "components.image_score": "mixed",
    **{f"readings.{name}": "released" for name in ("recon", "states", "deep")},
    "readings.upsampling": "nearest",
    "sizes.prototypes": 6,
    "sizes.context": 6,
    "sizes.classes": 2,
    "sizes.deep_tokens": 4,
    "sizes.class_samples": 10,
}
# By auxiliary dataset.
PRESETS = {
    "visa": {"epochs": 10, "pool": 5, "alpha": 0.26, "beta": 0.9, "recon_weight": 0.0},
    "mvtec": {"epochs": 5, "pool": 3, "alpha": 0.35, "beta": 1.0, "recon_weight": 1.0},
}


def published() -> pd.DataFrame:
    """Published values in [0, 1], by auxiliary, target, level and metric."""
    with files("cops_lightning.report").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def departures(record: Mapping[str, Any], auxiliary: str) -> list[str]:
    """How a run departs from what the published numbers were measured with; empty if it does not.

    Args:
        record: The content of its run.json.
        auxiliary: The dataset that it was trained on.
    """
    settings, backbone = flatten(record.get("method_settings") or {}), record.get("backbone", {})
    found = []
    if not str(backbone.get("name", "")).startswith("ViT-L-14-336") or not backbone.get("published_by_openai"):
        found.append(f"backbone {backbone.get('name', 'unknown')} instead of OpenAI's ViT-L/14@336")
    if not settings:
        return [*found, "the settings are unknown"]
    if auxiliary not in PRESETS:
        found.append(f"trained on {auxiliary}")
    if not str(_ending(settings, "model._target_").get("model._target_", "")).endswith(".CoPS"):
        found.append("another model than CoPS")
    if SETTINGS["image_size"] not in _ending(settings, "image_size").values():
        found.append(f"images are not known to be {SETTINGS['image_size']} px")
    expected = SETTINGS | {f"preset.{name}": value for name, value in PRESETS.get(auxiliary, {}).items()}
    for name, value in expected.items():
        found += [f"{key} is {given}" for key, given in _ending(settings, name).items() if given not in (value, None)]
    return found


def _ending(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings whose dotted key is this or ends so."""
    return {key: value for key, value in settings.items() if f".{key}".endswith(f".{name}")}
