"""What is said of an error in one line."""

import pytest

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.reporting import LONGEST, described


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DatasetError("part/003.png cannot be read.\nRestore it."), "part/003.png cannot be read.\nRestore it."),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (OSError("No space left\nand more that nobody reads"), "OSError: No space left"),
    ],
)
def test_an_error_of_ours_is_a_sentence_and_of_others_the_kind_counts(error, said):
    assert described(error) == said


def test_an_error_that_quotes_its_input_is_cut():
    assert described(ValueError("x" * 10**6)) == "ValueError: " + "x" * LONGEST
