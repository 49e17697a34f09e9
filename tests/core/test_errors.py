"""Errors quote of their input what a person can read."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cops_lightning.core.errors import LONGEST, CacheError, CopsError, excerpt, told


@given(st.text(), st.integers(40, 90))
def test_an_excerpt_is_bounded_and_printable(text, limit):
    short = excerpt(text, limit)
    assert short.isprintable()
    assert len(short) <= 10 * limit, "at most ten characters spell one"
    if text.isprintable() and len(text) <= limit:
        assert short == text


def test_a_message_that_quotes_a_huge_input_keeps_its_beginning_and_its_way_out():
    message = str(CopsError(f"Found {'x' * 10**7}. Give another."))
    assert message.startswith("Found xxx")
    assert message.endswith("xxx. Give another.")
    assert len(message) <= LONGEST


def test_an_error_is_the_same_after_a_journey_between_processes():
    error = CacheError(f"a\nb{'x' * 10**5}")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "y"), "it is not UTF-8"),
        (MemoryError(), "it unfolds to more than there is room for"),
        (
            pickle.UnpicklingError("set weights_only=False"),
            "it is damaged, or holds more than tensors and plain values",
        ),
        (ValueError("first\nsecond"), "first"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_whatever_a_reader_raises_becomes_one_sentence(failure, reason):
    with pytest.raises(CacheError) as caught, told(CacheError, "x cannot be read", "Get it anew."):
        raise failure
    assert str(caught.value) == f"x cannot be read ({reason}). Get it anew."


def test_an_error_of_ours_passes_unchanged():
    with pytest.raises(CopsError, match="^own$"), told(CacheError, "x cannot be read", "Get it anew."):
        raise CopsError("own")
