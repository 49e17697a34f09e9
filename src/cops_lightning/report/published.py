"""The authors' published numbers, and which runs may be compared with them."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

SOURCE = "README of the authors' program (https://github.com/cqylunlun/CoPS), arXiv 2508.03447; one seed"
EPOCHS = {"visa": 10, "mvtec": 5}
READINGS = {"recon": "released", "states": "released", "deep": "released", "upsampling": "nearest"}
SIZES = {"prototypes": 6, "context": 6, "classes": 2, "deep_tokens": 4, "class_samples": 10}


def published() -> pd.DataFrame:
    """Published values in [0, 1], by auxiliary, target, level and metric."""
    with files("cops_lightning.report").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def departures(record: Mapping[str, Any]) -> list[str]:
    """How a run, given its run.json, departs from what the published numbers were measured with; empty if it does not.

    Groups that a record leaves empty stand for their defaults, which are the released settings.
    """
    config, backbone = record.get("config", {}), record.get("backbone", {})

    def group(name: str) -> Mapping[str, Any]:
        return config.get(name) or {}

    found = []
    if not str(backbone.get("name", "")).startswith("ViT-L-14-336") or not backbone.get("published_by_openai"):
        found.append(f"backbone {backbone.get('name', 'unknown')} instead of OpenAI's ViT-L/14@336")
    if group("backbone").get("image_size") != 518:
        found.append("images are not known to be 518 px")
    if group("data").get("limit") is not None:
        found.append("not all images")
    if config.get("variant") != "cops" or group("model").get("name", "cops") != "cops":
        found.append("not the full method")
    if any(value in (False, "global", "local") for value in group("components").values()):
        found.append("components were taken away")
    for name, expected in (("readings", READINGS), ("sizes", SIZES)):
        changed = [key for key, value in expected.items() if group(name).get(key, value) != value]
        if changed:
            found.append(f"{name} differ: {', '.join(changed)}")
    auxiliary = group("auxiliary")
    if auxiliary.get("epochs", EPOCHS.get(auxiliary.get("source", ""))) != EPOCHS.get(auxiliary.get("source", "")):
        found.append("another auxiliary dataset or number of epochs")
    return found
