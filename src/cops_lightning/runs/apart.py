"""What a command writes lies apart from the data that it reads, which is checked before anything is written."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from omegaconf import DictConfig, OmegaConf

from cops_lightning.config.options import resolved
from cops_lightning.core.errors import ConfigError, CopsError
from cops_lightning.core.files import cache_folder
from cops_lightning.core.places import within
from cops_lightning.data.datamodules import AnomalyDataModule
from cops_lightning.runs.build import build_auxiliary, build_targets
from cops_lightning.runs.identity import alone, learns


def require_results_apart(config: DictConfig, key: str) -> None:
    """Raise ConfigError where the cache lies in a dataset that is read, or the folder of `key` does, or holds one.

    Of a sweep, that is of every value of `targets` and `auxiliary.source` that it sweeps over.
    """
    places = list(_places(config))
    settings = resolved(OmegaConf.masked_copy(alone(config), ["paths", "callbacks"]))
    caches = {settings["paths"]["cache"], (settings["callbacks"].get("feature_cache") or {}).get("folder"), None}
    for cache in caches:
        require_cache_apart(cache_folder(cache), places)
    folder = Path(OmegaConf.select(config, key)).absolute()
    for place in places:
        if within(folder, place) or within(place, folder):
            where = "is" if folder.resolve() == place.resolve() else "lies in" if within(folder, place) else "holds"
            raise ConfigError(
                f"Results would be written into {folder}, which {where} {place}, a dataset that is read. Nothing was "
                "written. Choose another place by paths.runs or hydra.run.dir (of a sweep: hydra.sweep.dir)."
            )


def require_cache_apart(cache: Path, places: Iterable[Path]) -> None:
    """Raise ConfigError where the folder of the cache lies in a dataset, which are in `places`."""
    for place in places:
        if within(cache, place):
            raise ConfigError(
                f"The cache would be written into {cache}, which lies in {place}, a dataset that is read. Nothing was "
                "written. Choose another folder by paths.cache or the environment variable COPS_CACHE."
            )


def _places(config: DictConfig) -> Iterator[Path]:
    """Where the data of a run or a sweep lies. Whatever is wrong with it is said when it is looked for."""
    variants = [{}, *_swept(config.hydra.overrides.task if "hydra" in config else ())]
    config = alone(config)
    for variant in variants:
        changed = OmegaConf.merge(config, variant)
        assert isinstance(changed, DictConfig)
        with suppress(CopsError):
            if not OmegaConf.select(changed, "checkpoint") and learns(changed.get("model") or None):
                yield from _of(build_auxiliary(changed))
        with suppress(CopsError):
            for target in build_targets(changed, ""):
                yield from _of(target)


def _swept(overrides: Iterable[str]) -> Iterator[dict[str, Any]]:
    parser = OverridesParser.create()
    for override in parser.parse_overrides(list(overrides)):
        if override.is_sweep_override():
            for value in override.sweep_iterator(Transformer.encode):
                if override.key_or_group == "targets":
                    yield {"targets": parser.parse_override(f"targets={value}").value()}
                elif override.key_or_group == "auxiliary.source":
                    yield {"auxiliary": {"source": value}}


def _of(data: AnomalyDataModule | None) -> list[Path]:
    with suppress(CopsError):
        return [] if data is None else data.places()
    return []
