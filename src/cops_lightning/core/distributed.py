"""What the processes of a run tell each other; a run of a single process is the plain case of each function."""

from typing import Any, TypeVar

from torch import distributed as dist

from cops_lightning.core.processes import world_size

T = TypeVar("T")


def from_first(value: T) -> T:
    """The value that the first process has; the others may give anything, such as None."""
    if world_size() == 1:
        return value
    holder: list[Any] = [value]
    dist.broadcast_object_list(holder, src=0)
    received: T = holder[0]
    return received


def from_all(value: T) -> list[T]:
    """The value of every process, in their order."""
    if world_size() == 1:
        return [value]
    received: list[Any] = [None] * world_size()
    dist.all_gather_object(received, value)
    return received
