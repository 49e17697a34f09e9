"""What can be chosen about AnomalyCLIP: how it is trained, and the sizes of its prompts."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from cops_lightning.core.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """How AnomalyCLIP is trained: as the released scripts do on either auxiliary dataset.

    Raises ConfigError for values out of range.

    Args:
        epochs: of training; the weights of the last one are used.
        seg_weight: weight of the pixel losses of each layer read.
    """

    epochs: int = 15
    seg_weight: float = 4.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.seg_weight < 0:
            raise ConfigError(
                f"epochs is {self.epochs} and seg_weight {self.seg_weight}; expected neither to be negative."
            )


@dataclass(frozen=True)
class Sizes:
    """How many learnt tokens there are.

    Args:
        context: context tokens of each prompt.
        deep_layers: text layers after the first with learnt tokens of their own; None is the backbone's number.
        deep_tokens: tokens in each of them, which both prompts share.
    """

    context: Annotated[int, Ge(1)] = 12
    deep_layers: Annotated[int, Ge(0)] | None = None
    deep_tokens: Annotated[int, Ge(1)] = 4
