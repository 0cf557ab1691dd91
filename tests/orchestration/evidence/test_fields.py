"""The consensus of JSON objects, member by member."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.evidence.fields import field_consensus

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text("abc", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=10,
)


def test_each_member_is_voted_on_by_itself_however_deep():
    found = field_consensus(
        [
            {"name": "Ada", "born": {"year": 1815, "city": "London"}},
            {"name": "ADA", "born": {"year": 1816, "city": "London"}},
            {"name": "Eva", "born": {"year": 1815, "city": "Paris"}},
        ]
    )
    assert found.value == {"name": "Ada", "born": {"year": 1815, "city": "London"}}
    assert [(one.path, round(one.agreement, 2)) for one in found.fields] == [
        ("name", 0.67),
        ("born.year", 0.67),
        ("born.city", 0.67),
    ]
    assert found.disagreements[1] == {"field": "born.year", "values": [1815, 1816, 1815]}


def test_a_member_that_few_have_is_left_out_and_reported():
    found = field_consensus([{"a": 1}, {"a": 1}, {"a": 1, "b": 2}])
    assert found.value == {"a": 1}
    assert found.disagreements == ({"field": "b", "values": [None, None, 2]},)


def test_lists_are_joined_place_by_place_as_long_as_most_say():
    found = field_consensus([{"items": ["x", "y"]}, {"items": ["x", "z"]}, {"items": ["x", "y", "q"]}])
    assert found.value == {"items": ["x", "y"]}
    assert [one["field"] for one in found.disagreements] == ["items[1]", "items[2]"]


def test_a_number_and_a_text_that_says_it_agree():
    assert field_consensus([{"n": 5}, {"n": "5.0"}, {"n": 6}]).value == {"n": 5}


def test_an_object_among_texts_is_outvoted_as_a_whole():
    found = field_consensus(["x", "x", {"a": 1}])
    assert (found.value, found.agreement) == ("x", pytest.approx(2 / 3))


def test_weights_count():
    assert field_consensus([{"a": 1}, {"a": 2}, {"a": 2}], [3, 1, 1]).value == {"a": 1}
    assert field_consensus([{"a": 1}, {"a": 1}, {"a": 2}], [0, 0, 0]).value == {"a": 1}


def test_nothing_has_no_consensus():
    with pytest.raises(ValueError, match="at least one"):
        field_consensus([])


@given(json_values, st.integers(1, 4))
def test_those_that_all_say_the_same_say_that(value, count):
    found = field_consensus([value] * count)
    assert (found.value, found.disagreements, found.agreement) == (value, (), 1.0)


@given(st.lists(json_values, min_size=1, max_size=5))
def test_there_is_always_a_consensus_and_every_agreement_is_a_share(values):
    found = field_consensus(values)
    assert all(0 < one.agreement <= 1 + 1e-9 and len(one.values) == len(values) for one in found.fields)


@given(json_values, json_values)
def test_two_outvote_one(most, other):
    assert field_consensus([most, most, other]).value == most
