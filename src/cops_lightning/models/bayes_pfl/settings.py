"""What can be chosen about Bayes-PFL: how it is trained, and the sizes of its prompts and flows."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from cops_lightning.core.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """How Bayes-PFL is trained: prompts, flows and maps first, then what the image score alone reads.

    The released program goes from the first stage to the second, and ends, where images of the datasets that it is
    tested on say so. Here the numbers of epochs are given. Raises ConfigError for values out of range.

    Args:
        epochs: of both stages; at most 30 as released.
        first_stage: of the first; None is two thirds. Where it is not below `epochs` there is no second.
    """

    epochs: int = 30
    first_stage: int | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.first_stage or 0) < 0:
            raise ConfigError(
                f"epochs is {self.epochs} and first_stage {self.first_stage}; expected neither to be negative."
            )

    @property
    def turn(self) -> int:
        """The epoch, counted from 0, with which the second stage begins."""
        return round(2 * self.epochs / 3) if self.first_stage is None else self.first_stage


@dataclass(frozen=True)
class Sizes:
    """How many learnt tokens and steps there are.

    Args:
        prompts: in the bank.
        context: context tokens of a prompt.
        states: state tokens of a prompt.
        flows: steps of each prompt flow.
    """

    prompts: Annotated[int, Ge(1)] = 3
    context: Annotated[int, Ge(1)] = 5
    states: Annotated[int, Ge(1)] = 5
    flows: Annotated[int, Ge(1)] = 10
