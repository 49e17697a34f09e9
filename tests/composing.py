"""Configurations as the commands get them; options that are chosen together are composed by Hydra once."""

from copy import deepcopy
from functools import cache

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from cops_lightning.config.options import register
from cops_lightning.core.files import conf_folder


def composed(*overrides: str, name: str = "train", hydra: bool = False) -> DictConfig:
    """What `cops-train`, or with name `eval` `cops-eval`, gets: unresolved, with `hydra` Hydra's own settings too."""
    parsed = OverridesParser.create().parse_overrides(["paths.output=.", *overrides])
    config = deepcopy(_options(name, tuple(str(o.input_line) for o in parsed if _chooses(o)), hydra))
    # As Hydra does when the files are merged.
    ConfigLoaderImpl._apply_overrides_to_config([o for o in parsed if not _chooses(o)], config)
    return config


def _chooses(override: Override) -> bool:
    """Whether it decides which files are read."""
    return override.key_or_group.startswith("hydra") or (conf_folder() / override.key_or_group).is_dir()


@cache
def _options(name: str, chosen: tuple[str, ...], hydra: bool) -> DictConfig:
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose(name, list(chosen), return_hydra_config=hydra)
