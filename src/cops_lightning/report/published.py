"""Numbers that the authors of each method published, and which runs may be compared with them.

AUPRO of AnomalyCLIP's tables is left out, as it is not the usual one; so are the numbers of Bayes-PFL, whose image
scores were scaled over the images of a category, and whose training was stopped by images of the targets.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import pandas as pd

from cops_lightning.report.methods import flatten


class Protocol(NamedTuple):
    """What numbers were measured with, by the end of a setting's dotted key: defaults of what a run leaves open."""

    settings: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    """By auxiliary dataset."""


DATA = {"image_size": 518, "data.limit": None, "corruption": None, "corruption.kind": "none"}
# By the name of the detector's class, as in published.csv.
PROTOCOLS = {
    "CoPS": Protocol(
        DATA
        | {
            **{f"components.{name}": True for name in ("states", "classes", "spatial_weights", "deep_prompts")},
            "components.image_score": "mixed",
            **{f"readings.{name}": "released" for name in ("recon", "states", "deep")},
            "readings.upsampling": "nearest",
            "sizes.prototypes": 6,
            "sizes.context": 6,
            "sizes.classes": 2,
            "sizes.deep_tokens": 4,
            "sizes.class_samples": 10,
        },
        {
            "visa": {"epochs": 10, "pool": 5, "alpha": 0.26, "beta": 0.9, "recon_weight": 0.0},
            "mvtec": {"epochs": 5, "pool": 3, "alpha": 0.35, "beta": 1.0, "recon_weight": 1.0},
        },
    ),
    "AnomalyCLIP": Protocol(
        DATA
        | {
            "model.dual_layers": 19,
            "model.features_list": [24],
            "sizes.context": 12,
            "sizes.deep_layers": 8,
            "sizes.deep_tokens": 4,
        },
        {auxiliary: {"epochs": 15, "seg_weight": 4.0} for auxiliary in ("visa", "mvtec")},
    ),
}


def published() -> pd.DataFrame:
    """Published values in [0, 1] and their sources, by model, auxiliary, target, level and metric."""
    with files("cops_lightning.report").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def departures(record: Mapping[str, Any], auxiliary: str, model: str | None = None) -> list[str]:
    """How a run departs from what the published numbers were measured with; empty if it does not.

    Args:
        record: The content of its run.json.
        auxiliary: The dataset that it was trained on.
        model: The class of its detector, where the record does not say: of a released checkpoint.
    """
    settings, backbone = flatten(record.get("method_settings") or {}), record.get("backbone", {})
    model = model or model_of(record)
    found = []
    if not str(backbone.get("name", "")).startswith("ViT-L-14-336") or not backbone.get("published_by_openai"):
        found.append(f"backbone {backbone.get('name', 'unknown')} instead of OpenAI's ViT-L/14@336")
    if not settings:
        return [*found, "the settings are unknown"]
    if model not in PROTOCOLS:
        return [*found, f"another model than {' and '.join(PROTOCOLS)}"]
    protocol = PROTOCOLS[model]
    if auxiliary not in protocol.presets:
        found.append(f"trained on {auxiliary}")
    ending = _by_ending(settings)
    if DATA["image_size"] not in ending.get("image_size", {}).values():
        found.append(f"images are not known to be {DATA['image_size']} px")
    expected = {
        **protocol.settings,
        **{f"preset.{name}": value for name, value in protocol.presets.get(auxiliary, {}).items()},
    }
    for name, value in expected.items():
        given = ending.get(name, {})
        found += [f"{key} is {of_key}" for key, of_key in given.items() if of_key not in (value, None)]
    return found


def differences(record: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """Which settings of a run are others than those of the experiment that it repeats.

    Args:
        record: The content of its run.json.
        protocol: All settings of the experiment that can change a number.
    """
    # As run.json has them, in which a tuple is a list.
    given, expected = (
        flatten(json.loads(json.dumps(settings, default=str)))
        for settings in (record.get("method_settings") or {}, protocol)
    )
    keys = dict.fromkeys((*given, *expected))
    return [f"{key} is {given.get(key, 'left out')}" for key in keys if given.get(key) != expected.get(key)]


def model_of(record: Mapping[str, Any]) -> str:
    """The class of a run's detector, as `published` has it."""
    settings = flatten(record.get("method_settings") or {})
    return str(settings.get("model._target_", "")).rpartition(".")[2]


def _by_ending(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By what a dotted key may end in, itself included, the settings whose key ends so."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        parts = key.split(".")
        for place in range(len(parts)):
            found.setdefault(".".join(parts[place:]), {})[key] = value
    return found
