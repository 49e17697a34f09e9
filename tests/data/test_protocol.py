"""What was trained on is not tested on."""

from pathlib import Path

import pytest

from cops_lightning.core.errors import ProtocolError
from cops_lightning.core.types import Sample
from cops_lightning.data.protocol import categories_of, images_of, require_unseen


def samples(dataset: str, *categories: str, root: str | Path = "/data") -> tuple[Sample, ...]:
    """A normal and an anomalous image of each category; the files need not exist."""
    return tuple(
        Sample(
            dataset, c, "test", "d", Path(root, c, f"{anomalous}.png"), None, anomalous, f"{dataset}/{c}/{anomalous}"
        )
        for c in categories
        for anomalous in (False, True)
    )


def test_the_categories_of_samples_carry_the_name_of_their_dataset():
    assert categories_of(samples("a", "x", "y")) == ("a/x", "a/y")


def test_a_target_with_a_trained_category_is_refused_and_the_way_out_is_named():
    with pytest.raises(ProtocolError) as caught:
        require_unseen([("b", samples("b", "x")), ("a", samples("a", "x", "y"))], ["a/y"])
    assert str(caught.value) == (
        "a is not zero-shot: its categories a/y were trained on. Test on other data, or ask for it: in Python by "
        "evaluate_seen=True of its data module, on the command line by evaluate_seen=[a]. Such numbers must not be "
        "reported as zero-shot."
    )


def test_other_categories_of_a_dataset_that_was_trained_on_are_zero_shot():
    require_unseen([("a", samples("a", "x"))], ["a/y"])


def test_a_target_may_be_allowed_by_name():
    require_unseen([("a", samples("a", "x"))], ["a/x"], allowed=["a"])


def written(root: Path, content: str) -> Path:
    """The images of `samples` of a category x, whose bytes are `content` and their label."""
    (root / "x").mkdir(parents=True)
    for anomalous in (False, True):
        (root / "x" / f"{anomalous}.png").write_text(f"{content} {anomalous}")
    return root


def test_images_that_were_trained_on_are_refused_wherever_they_lie_and_whatever_they_are_called(tmp_path: Path):
    trained = images_of(samples("a", "x", root=written(tmp_path / "a", "grey")))
    copied = samples("b", "x", root=written(tmp_path / "b", "grey"))
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    for tested in (copied, samples("b", "x", root=tmp_path / "linked")):
        with pytest.raises(ProtocolError, match="b is not zero-shot: 2 of its images were trained on"):
            require_unseen([("b", tested)], ["a/x"], trained)


def test_other_images_under_the_name_of_those_that_were_trained_on_are_zero_shot_unless_the_name_is_a_published_one(
    tmp_path: Path,
):
    trained = images_of(samples("a", "x", root=written(tmp_path / "here", "grey")))
    other = written(tmp_path / "there", "white")
    require_unseen([("a", samples("a", "x", root=other))], ["a/x"], trained)
    with pytest.raises(ProtocolError, match="its categories visa/x were trained on"):
        require_unseen([("visa", samples("visa", "x", root=other))], ["visa/x"], trained)


def test_many_categories_are_counted():
    names = [f"c{number}" for number in range(8)]
    with pytest.raises(ProtocolError, match=r"a/c0, .*a/c4 and 3 more were trained on"):
        require_unseen([("a", samples("a", *names))], categories_of(samples("a", *names)))
