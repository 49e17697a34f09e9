"""What was trained on is not tested on."""

from pathlib import Path

import pytest

from cops_lightning.core.errors import ProtocolError
from cops_lightning.core.types import Sample
from cops_lightning.data.protocol import categories_of, require_unseen


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
    require_unseen([("a", samples("a", "x"))], ["a/y"], samples("a", "y"))


def test_a_target_may_be_allowed_by_name():
    require_unseen([("a", samples("a", "x"))], ["a/x"], samples("a", "x"), ["a"])


def test_the_same_files_under_another_name_are_refused():
    with pytest.raises(ProtocolError, match="b is not zero-shot: 2 of its images were trained on"):
        require_unseen([("b", samples("b", "x"))], ["a/x"], samples("a", "x"))


def test_the_same_files_through_a_link_are_refused(tmp_path: Path):
    (tmp_path / "real" / "x").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    trained, tested = samples("a", "x", root=tmp_path / "real"), samples("b", "x", root=tmp_path / "linked")
    with pytest.raises(ProtocolError, match="2 of its images"):
        require_unseen([("b", tested)], ["a/x"], trained)


def test_many_categories_are_counted():
    names = [f"c{number}" for number in range(8)]
    with pytest.raises(ProtocolError, match=r"a/c0, .*a/c4 and 3 more were trained on"):
        require_unseen([("a", samples("a", *names))], categories_of(samples("a", *names)))
