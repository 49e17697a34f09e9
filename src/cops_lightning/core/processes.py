"""Which process of a distributed run this is; a run of a single process is the plain case."""

from torch import distributed as dist


def rank() -> int:
    """Which process this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1
