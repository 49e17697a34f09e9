"""The zero-shot protocol: what was trained on is not tested on."""

from collections.abc import Collection, Iterable, Sequence

from cops_lightning.core.errors import ProtocolError
from cops_lightning.core.types import Sample, category_key

SHOWN = 5  # categories that a message names


def categories_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The key of every category among the samples, in order of appearance."""
    return tuple(dict.fromkeys(category_key(sample.dataset, sample.category) for sample in samples))


def require_unseen(
    targets: Iterable[tuple[str, Sequence[Sample]]],
    trained_on: Collection[str],
    trained_samples: Iterable[Sample] = (),
    allowed: Collection[str] = (),
) -> None:
    """Refuse to test on what was trained on.

    Args:
        targets: each with its name and its samples.
        trained_on: every "dataset/category" that was trained on, as `categories_of` gives them.
        trained_samples: what was trained on, where it is known: the same image files are found under any name.
        allowed: names of targets that may be tested on nevertheless.

    Raises ProtocolError for the first other target that has such a category or image file.
    """
    trained_files = {sample.image.resolve() for sample in trained_samples}
    for name, samples in targets:
        if name in allowed:
            continue
        seen = [category for category in categories_of(samples) if category in trained_on]
        shared = sum(sample.image.resolve() in trained_files for sample in samples) if trained_files else 0
        if seen or shared:
            more = f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else ""
            found = f"its categories {', '.join(seen[:SHOWN])}{more}" if seen else f"{shared} of its images"
            raise ProtocolError(
                f"{name} is not zero-shot: {found} were trained on. Test on other data, or ask for it: in Python by "
                f"evaluate_seen=True of its data module, on the command line by evaluate_seen=[{name}]. Such numbers "
                "must not be reported as zero-shot."
            )
