"""The published datasets, as `catalog.yaml` lists them: what they are, how they lie on disk, and how many images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from cops_lightning.core.errors import ConfigError, DatasetError
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.data.readers.spec import Counts, DatasetSpec, Folders, Layout, Table


def _layout(row: Mapping[str, Any]) -> Layout:
    texts: dict[str, Any] = {key: _texts(row[key]) for key in ("images", "masks", "ignore", "places") if key in row}
    if "table" in row:
        return Table(row["name"], row["table"], row["columns"], **texts)
    normal = frozenset(row["normal"]) if "normal" in row else None
    return Folders(row["name"], normal=normal, blank=row.get("blank", "error"), **texts)


def _texts(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _spec(name: str, row: Mapping[str, Any]) -> DatasetSpec:
    values = {"mask_threshold": 127} | {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
    counts = {category: Counts(*numbers) for category, numbers in row["counts"].items()}
    return DatasetSpec(name, **values | {"layouts": tuple(map(_layout, row["layouts"])), "counts": counts})


_FILE = yaml.load(
    Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
)
# What a folder of one's own is read as, if it is given without a spec.
OWN_LAYOUTS = tuple(map(_layout, _FILE["own"]))

CATALOG: Mapping[str, DatasetSpec] = MappingProxyType(
    {name: _spec(name, row) for name, row in _FILE["datasets"].items()}
)
BENCHMARK = tuple(name for name in CATALOG if name != "magnetic_tile")  # the thirteen sets of the paper
# Words that stand for several targets. The procedural ones are rendered by `cops_lightning.demo`.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "all": BENCHMARK,
        "industrial": tuple(name for name in BENCHMARK if CATALOG[name].domain == "industrial"),
        "medical": tuple(name for name in BENCHMARK if CATALOG[name].domain == "medical"),
        "procedural": ("procedural_easy", "procedural_medium", "procedural_hard"),
    }
)


_SPELLINGS = {
    spelling.casefold(): spec
    for spec in CATALOG.values()
    for spelling in (spec.name, spec.title, *spec.aliases, *spec.folders)
}


def spec_or_none(name: str) -> DatasetSpec | None:
    """The row of a dataset, by its name or another usual spelling."""
    return _SPELLINGS.get(name.strip().casefold())


def find_spec(name: str) -> DatasetSpec:
    """The row of a dataset, by its name or another usual spelling. Raises DatasetError with the nearest name."""
    if (spec := spec_or_none(name)) is None:
        raise unknown_dataset(name)
    return spec


def unknown_dataset(name: str) -> DatasetError:
    """The error for a name that no row has, with the nearest that one has."""
    hint = did_you_mean(name.strip().casefold(), _SPELLINGS, cutoff=0.5)
    return DatasetError(
        f"'{name}' is neither a known dataset nor an existing path.{hint} Known datasets: {', '.join(CATALOG)}. "
        "A set of your own is given by a path to a folder, a table (.csv, .jsonl) or a spec (.yaml)."
    )


def expand_targets(names: str | Sequence[str] | None, auxiliary: str | None = None) -> tuple[str, ...]:
    """The names of targets, with the words of `GROUPS` replaced by the datasets that they stand for.

    A group leaves out the dataset `auxiliary` that is trained on, since testing on it would not be zero-shot. Raises
    ConfigError where no dataset is named, or one is named twice.
    """
    given = [names] if isinstance(names, str) else list(names or ())
    if not given or not all(isinstance(name, str) and name for name in given):
        raise ConfigError(
            f"targets is {names!r}; name at least one dataset, such as targets=[mvtec,btad], or one of the groups "
            f"{', '.join(GROUPS)}."
        )
    left_out = None if auxiliary is None else _canonical(auxiliary)
    expanded = [part for name in given for part in GROUPS.get(name, (name,)) if name not in GROUPS or part != left_out]
    known = [_canonical(name) for name in expanded]
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise ConfigError(f"targets holds {', '.join(twice)} twice; name each dataset once.")
    return tuple(expanded)


def _canonical(name: str) -> str:
    return name if (spec := spec_or_none(name)) is None else spec.name
