"""A setting of a few values names them where it has another."""

from dataclasses import dataclass
from typing import Literal

import pytest

from cops_lightning.core.choices import require_choice, require_choices
from cops_lightning.core.errors import ConfigError


@dataclass
class Drink:
    size: Literal["small", "large"] = "small"
    sugar: int = 0


def test_another_value_is_refused_with_those_that_exist():
    require_choice("drink.size", "large", Literal["small", "large"])
    with pytest.raises(ConfigError, match="drink.size is 'huge'; expected small or large"):
        require_choice("drink.size", "huge", Literal["small", "large"])


def test_every_field_of_a_literal_type_is_checked_and_no_other():
    require_choices("drink", Drink(sugar=1000))
    with pytest.raises(ConfigError, match="drink.size is 'huge'; expected small or large"):
        require_choices("drink", Drink("huge"))


def test_settings_of_the_library_are_checked_when_they_are_made():
    # Through object.__setattr__, as the tests' own type checks would speak first.
    from cops_lightning.models.cops import Readings

    readings = Readings()
    object.__setattr__(readings, "recon", "foo")
    with pytest.raises(ConfigError, match="readings.recon is 'foo'; expected released or matched"):
        readings.__post_init__()
