"""Features of images, kept on disk so that the frozen encoder sees each image once.

A `FeatureStore` is one folder of features that belong together; `survey`, `verify` and `prune` look after all stores
below a root.
"""

from cops_lightning.features.store import FOLDER, Entry, FeatureKey, FeatureStore
from cops_lightning.features.upkeep import (
    GB,
    Damage,
    Pruned,
    StoreSummary,
    entries,
    make_room,
    prune,
    stores,
    survey,
    verify,
)

__all__ = [
    "FOLDER",
    "GB",
    "Damage",
    "Entry",
    "FeatureKey",
    "FeatureStore",
    "Pruned",
    "StoreSummary",
    "entries",
    "make_room",
    "prune",
    "stores",
    "survey",
    "verify",
]
