"""Settings that take one of a few values, as their Literal type states them."""

from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

from cops_lightning.core.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
Split = Literal["train", "test"]  # of a dataset


def require_choice(setting: str, value: object, choices: Any) -> None:
    """Raise ConfigError, naming the setting, unless `value` is one of the values of the Literal type `choices`."""
    allowed = get_args(choices)
    if value not in allowed:
        raise ConfigError(f"{setting} is {value!r}; expected {' or '.join(map(str, allowed))}.")


def require_choices(group: str, settings: Any) -> None:
    """`require_choice` for every field of the dataclass `settings` that has a Literal type."""
    for field in fields(settings):
        if get_origin(field.type) is Literal:
            require_choice(f"{group}.{field.name}", getattr(settings, field.name), field.type)
