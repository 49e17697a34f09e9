"""albumentations, which is imported here alone.

2.0 is its last line under the MIT licence; what its authors continue has another one. So the library is held below 2.1,
and whoever replaces it replaces this module.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Augment = Callable[..., Mapping[str, Any]]  # a transform of albumentations, or several composed


def library() -> Any:
    """albumentations. Imported when it is asked for: it takes seconds, and few runs augment or corrupt."""
    import albumentations

    return albumentations


def composed(transforms: Augment | Sequence[Augment]) -> Augment:
    """Transforms that are applied one after the other, as one."""
    if not isinstance(transforms, Sequence):
        return transforms
    made: Augment = library().Compose(list(transforms))
    return made
