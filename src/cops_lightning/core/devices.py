"""Where tensors are computed."""

import re

import torch

from cops_lightning.core.errors import ConfigError


def find_device(name: str | None) -> torch.device:
    """The device of that name, such as cpu or cuda:1; None is a GPU if there is one. Raises ConfigError if absent."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()  # which "meta" has none of
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0].split(". ")[0]
        raise ConfigError(f"The device {name} cannot be used here ({said}). Try --device cpu.") from error
    return device


def require_device_of_cluster(name: str | None) -> None:
    """Raise ConfigError unless a name is of what Ray gives a process: cpu, cuda, cuda:N, or None for any."""
    if name is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", name, re.ASCII):
        raise ConfigError(f"The device {name} cannot be used over a cluster. Expected cpu or cuda.")
