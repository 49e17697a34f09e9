"""The files of `conf/model` and `conf/ablation`: names that mean what they say."""

from typing import Any

import pytest

from composing import composed
from cops_lightning.config.options import options_of, resolved


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every key with its value."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    return {name: value for key, part in config.items() for name, value in flat(part, f"{prefix}.{key}").items()}


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return flat(resolved(composed()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in options_of("ablation") if name != "none"])
def test_an_ablation_changes_one_part_of_the_model_and_nothing_else(name, whole):
    ablated = flat(resolved(composed(f"ablation={name}")))
    changed = {key for key in ablated if ablated[key] != whole.get(key, "not stated")}
    assert {key.rsplit(".", 1)[0] for key in changed} < {".model.components", ".model.sizes", ".model.readings"}
    # The sound readings go together; anything else is one change at a time.
    assert len(changed) == (3 if name == "matched_readings" else 1)


def test_no_ablation_is_the_whole_model(whole):
    assert flat(resolved(composed("ablation=none"))) == whole


def test_static_prompts_are_the_whole_model_without_states_and_classes(whole):
    static = flat(resolved(composed("model=static_prompts")))
    assert {key: value for key, value in static.items() if value != whole.get(key, "not stated")} == {
        ".model.components.states": False,
        ".model.components.classes": False,
    }
