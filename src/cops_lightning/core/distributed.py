"""Which process of a distributed run this is, and exchange of values; a single process is the plain case of each."""

from typing import Any, TypeVar

from torch import distributed as dist

T = TypeVar("T")


def rank() -> int:
    """Which process this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


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
