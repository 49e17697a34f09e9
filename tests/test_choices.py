"""The files of `conf/model`, `conf/ablation` and the studies over them: names that mean what they say."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cops_lightning.config import conf_folder, register

CONF = conf_folder()
ABLATIONS = sorted(path.stem for path in (CONF / "ablation").glob("*.yaml"))
STUDIES = ("ablations", "static_prompts")


def composed(*overrides: str, page: str = "train") -> Any:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(page, list(overrides))


def flat(config: Any) -> dict[str, Any]:
    """Every key with its resolved value."""
    keys = OmegaConf.to_container(config, resolve=True, enum_to_str=True)

    def walk(prefix: str, node: Any) -> dict[str, Any]:
        if not isinstance(node, dict):
            return {prefix: node}
        return {name: value for key, part in node.items() for name, value in walk(f"{prefix}.{key}", part).items()}

    return walk("", keys)


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "none"])
def test_an_ablation_changes_its_own_name_and_a_part_of_the_method_and_nothing_else(name):
    whole, ablated = flat(composed()), flat(composed(f"ablation={name}"))
    changed = {key for key in ablated if ablated[key] != whole[key]}
    assert ablated[".variant"] == name
    groups = {key.split(".")[1] for key in changed - {".variant"}}
    assert len(groups) == 1
    assert groups < {"components", "sizes", "readings"}
    # The sound readings go together; anything else is one change at a time.
    assert len(changed) == (4 if name == "matched_readings" else 2)


def test_no_ablation_is_the_whole_model():
    assert flat(composed("ablation=none")) == flat(composed())


def test_static_prompts_are_the_whole_model_without_states_and_classes():
    whole, static = flat(composed()), flat(composed("model=static_prompts"))
    changed = {key: static[key] for key in static if static[key] != whole[key]}
    assert changed == {
        ".model.name": "static_prompts",
        ".variant": "static_prompts",
        ".components.states": False,
        ".components.classes": False,
    }


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_a_models_file_has_its_name(name):
    assert composed(f"model={name}").model.name == name


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_composes_for_every_choice_that_it_sweeps_over(study):
    params = OmegaConf.load(CONF / "experiment" / f"{study}.yaml").hydra.sweeper.params
    swept = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    choices = {override.key_or_group: list(override.sweep_string_iterator()) for override in swept}
    group = "ablation" if study == "ablations" else "model"
    variants = {composed(f"experiment={study}", f"{group}={choice}").variant for choice in choices[group]}
    assert len(variants) == len(choices[group])
    assert choices["seed"] == ["0", "1", "2", "3", "4"]
