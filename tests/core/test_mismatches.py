"""What does not fit is named."""

import torch

from cops_lightning.core.weights import mismatches

EXPECTED = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}


def test_states_of_equal_names_and_shapes_have_no_mismatch():
    assert mismatches({name: value + 1 for name, value in EXPECTED.items()}, EXPECTED) == ""


def test_missing_unexpected_and_misshapen_entries_are_named():
    given = {"a": torch.zeros(5), "b": torch.zeros(3), "d": torch.zeros(1)}
    assert mismatches(given, EXPECTED) == "missing c; unexpected d; a has shape (5,), expected (2,)"
    assert mismatches(given, EXPECTED, optional=lambda name: name == "c").startswith("unexpected d")


def test_a_long_list_is_cut_and_counted():
    assert mismatches({f"x{i}": torch.zeros(1) for i in range(6)} | EXPECTED, EXPECTED).endswith("x3 (and 2 more)")
