"""What methods are called, and which of them a name on the command line means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cops_lightning.core.errors import CopsError
from cops_lightning.report.methods import Method, find_method, name_methods

METHODS = (
    Method("0a1b2c3d4e5f", "cops (optimizer.lr=0.001)", ("cops",)),
    Method("0a1b99999999", "cops (optimizer.lr=0.01)", ("cops",)),
    Method("ffff00000000", "static", ("static", "plain")),
)


def names(labels, settings):
    return [method.name for method in name_methods(labels, settings)[0]]


def test_a_label_of_one_method_is_its_name():
    assert names({"k1": ["cops"], "k2": ["clip"]}, {"k1": {"a": 1}, "k2": {"a": 2}}) == ["cops", "clip"]


def test_values_are_named_as_they_are_written_in_yaml():
    settings = {"k1": {"a": None, "b": {"c": [1, 2]}, "d": "x"}, "k2": {"a": 0.5, "b": {"c": True}, "d": "y"}}
    assert names({"k1": ["m"], "k2": ["m"]}, settings) == ["m (a=null, b.c=[1, 2], d=x)", "m (a=0.5, b.c=true, d=y)"]


def test_many_different_settings_are_counted():
    settings = {key: dict.fromkeys("abcde", key) for key in ("k1", "k2")}
    assert names({"k1": ["m"], "k2": ["m"]}, settings) == [f"m (a={k}, b={k}, c={k}, 2 more)" for k in ("k1", "k2")]


def test_methods_that_their_first_settings_do_not_tell_apart_are_named_by_hash():
    # Of four settings that differ among the three, a name has room for three, which the first two share.
    settings = {"k1": {**dict.fromkeys("abc", 0), "d": 1}, "k2": {**dict.fromkeys("abc", 0), "d": 2},
                "k3": dict.fromkeys("abc", 1)}  # fmt: skip
    assert names({key: ["m"] for key in settings}, settings) == ["m (k1)", "m (k2)", "m (a=1, b=1, c=1, 1 more)"]


def test_equal_settings_are_named_by_hash_in_full_where_its_start_is_shared():
    assert names({"12345678a": ["m"], "12345678b": ["m"]}, {}) == ["m (12345678a)", "m (12345678b)"]


@given(
    labels=st.dictionaries(
        st.text("k12", min_size=1), st.lists(st.sampled_from(["m", "m (a=1)", "m (k1)"]), min_size=1)
    ),
    values=st.lists(st.integers(0, 2), min_size=9),
)
def test_no_two_methods_share_a_name(labels, values):
    settings = {key: {"a": value} for key, value in zip(labels, values, strict=False)}
    found = names(labels, settings)
    assert len(set(found)) == len(labels)


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("cops (optimizer.lr=0.01)", 1),
        ("static", 2),
        ("plain", 2),
        ("0a1b2", 0),
        ("ffff", 2),
    ],
)
def test_a_method_is_found_by_name_label_or_the_start_of_its_hash(asked, place):
    assert find_method(METHODS, asked) is METHODS[place]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("cops", r"'cops' stands for 2 methods: 'cops \(optimizer.lr=0.001\)' \(hash 0a1b2c3d\), 'cops \(optimizer.lr"),
        ("0a1b", "'0a1b' stands for 2 methods: .* Give one of these names, or the start of a hash"),
        ("fff", "No finished run is of the method 'fff'; there are cops"),
        ("statik", r"did you mean static\?"),
    ],
)
def test_what_means_no_method_or_several_is_refused_with_those_that_there_are(asked, said):
    with pytest.raises(CopsError, match=said):
        find_method(METHODS, asked)
