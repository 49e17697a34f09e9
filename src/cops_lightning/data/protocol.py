"""The zero-shot protocol: what was trained on is not tested on."""

from collections.abc import Collection, Iterable, Sequence

from cops_lightning.core.errors import ProtocolError, listed
from cops_lightning.core.hashes import hashes_of
from cops_lightning.core.types import Sample, category_key
from cops_lightning.data.catalog import spec_or_none

SHOWN = 5  # categories that a message names


def categories_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The key of every category among the samples, in order of appearance."""
    return tuple(dict.fromkeys(category_key(sample.dataset, sample.category) for sample in samples))


def images_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    """A hash of the file of every image among the samples. Raises DatasetError where one cannot be read."""
    return tuple(dict.fromkeys(hashes_of([sample.image for sample in samples])))


def require_unseen(
    targets: Iterable[tuple[str, Sequence[Sample]]],
    trained_on: Collection[str],
    trained_images: Collection[str] = (),
    allowed: Collection[str] = (),
) -> None:
    """Refuse to test on what was trained on.

    Args:
        targets: each with its name and its samples.
        trained_on: every "dataset/category" that was trained on, as `categories_of` gives them. A name tells published
            datasets apart, and others where the content of what was trained on is not known.
        trained_images: what was trained on, as `images_of` gives it, under whatever name.
        allowed: names of targets that may be tested on nevertheless.

    Raises ProtocolError for the first other target that has such a category or image.
    """
    trained = set(trained_images)
    for name, samples in targets:
        if name in allowed:
            continue
        shared = len(trained.intersection(images_of(samples))) if trained else 0
        named = shared or not trained or any(spec_or_none(sample.dataset) for sample in samples[:1])
        seen = [category for category in categories_of(samples) if named and category in trained_on]
        if seen or shared:
            found = f"its categories {listed(seen, SHOWN)}" if seen else f"{shared} of its images"
            raise ProtocolError(
                f"{name} is not zero-shot: {found} were trained on. Test on other data, or ask for it: in Python by "
                f"evaluate_seen=True of its data module, on the command line by evaluate_seen=[{name}]. Such numbers "
                "must not be reported as zero-shot."
            )
