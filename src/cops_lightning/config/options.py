"""The options in `conf/`, found and composed without importing what they name."""

import json
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cops_lightning.config.settings import EvalSettings, TrainSettings, open_keys
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.files import conf_folder


def register() -> None:
    """Make `open_train` and `open_eval` known to Hydra: they let the command line add arguments without `+`."""
    for name, schema in (("open_train", TrainSettings), ("open_eval", EvalSettings)):
        node = {key: OmegaConf.create({}, flags={"struct": False}) for key in open_keys(schema)}
        ConfigStore.instance().store(name=name, node=OmegaConf.create(node))


def options_of(group: str) -> list[str]:
    """The names of the options of a group of `conf/`."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def composed(*overrides: str, name: str = "train") -> DictConfig:
    """What `conf/NAME.yaml` composes to with these overrides and the folders that the user named, outside any command.

    Raises ConfigError where an override does not fit.
    """
    register()
    searched = ", ".join(json.dumps(f"file://{folder}") for folder in search_folders()[:-1])
    outside, own = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            # Only inside a command is there a folder of a run.
            return compose(name, [f"hydra.searchpath=[{searched}]", "paths.output=.", *overrides])
    except HydraException as error:
        raise ConfigError(f"The options {', '.join(overrides)} cannot be composed: {error}") from error
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = outside, own


def default_nodes(*overrides: str) -> dict[str, Any]:
    """`composed` as plain values."""
    return resolved(composed(*overrides))


def find_option(group: str, name: str) -> DictConfig | None:
    """An option in the folders of configurations that this command reads, with what it inherits; None if there is none.

    What it overrides of other groups is left out.
    """
    files = [folder / group / f"{name}.yaml" for folder in search_folders() if Path(name).name == name]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    found = OmegaConf.load(file)
    assert isinstance(found, DictConfig)
    named = [next(iter(entry)) if isinstance(entry, DictConfig) else entry for entry in found.pop("defaults", ())]
    if any(not str(name).startswith(("override ", "_self_")) for name in named):
        node = composed(f"{group}={name}")[group]
        assert isinstance(node, DictConfig)
        return node
    return found


def search_folders() -> list[Path]:
    """The folders of configurations: those that the user named, then the library's."""
    if not HydraConfig.initialized():
        return [conf_folder()]
    sources = HydraConfig.get().runtime.config_sources
    found = [(source.provider, Path(source.path)) for source in sources if source.schema == "file"]
    return [path for provider, path in found if provider != "main"] + [conf_folder()]


def resolved(config: Any) -> dict[str, Any]:
    """A configuration as plain values, interpolations resolved. Raises ConfigError naming what cannot be."""
    try:
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        said = str(error).splitlines()[0]
        raise ConfigError(
            f"The setting {key} has no value ({said}). Give it one by {key}=VALUE on the command line."
        ) from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
