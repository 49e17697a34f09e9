"""The zero-shot protocol: what was trained on is not tested on."""

from collections.abc import Sequence

from cops_lightning.core.errors import ProtocolError
from cops_lightning.data import DatasetIndex


def trained_categories(auxiliary: DatasetIndex) -> tuple[str, ...]:
    """Every "dataset/category" that training on this dataset sees."""
    return tuple(f"{auxiliary.name}/{category}" for category in auxiliary.categories)


def require_unseen(
    targets: Sequence[DatasetIndex], trained_on: Sequence[str], auxiliary: DatasetIndex | None, allowed: Sequence[str]
) -> None:
    """Raise ProtocolError if a target holds categories or image files that were trained on, unless allowed by name."""
    trained_files = {sample.image.resolve() for sample in auxiliary.test} if auxiliary else set()
    for target in targets:
        if target.name in allowed:
            continue
        seen = [name for name in trained_categories(target) if name in trained_on]
        shared = sum(sample.image.resolve() in trained_files for sample in target.test) if trained_files else 0
        if seen or shared:
            found = f"its categories {', '.join(seen[:5])}" if seen else f"{shared} of its images"
            raise ProtocolError(
                f"{target.name} is not zero-shot: {found} were trained on. Choose other targets, or ask for it by name "
                f"with evaluate_seen=[{target.name}]; such numbers must not be reported as zero-shot."
            )
