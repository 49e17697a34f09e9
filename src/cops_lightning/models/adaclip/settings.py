"""What can be chosen about AdaCLIP: how long it is trained, and the sizes of its prompts."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from cops_lightning.core.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """How AdaCLIP is trained; the weights of the last epoch are used.

    The released program keeps the epoch with the best pixels of a dataset that it is tested on later. Raises
    ConfigError for values out of range.

    Args:
        epochs: of training; 5 as released.
    """

    epochs: int = 5

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError(f"epochs is {self.epochs}; expected 0 or more.")


@dataclass(frozen=True)
class Sizes:
    """How many learnt tokens there are.

    Args:
        depth: layers of either tower with static prompts of their own, from the first.
        length: tokens of each.
    """

    depth: Annotated[int, Ge(1)] = 4
    length: Annotated[int, Ge(1)] = 5
