"""How diverse a panel is."""

import pytest

from app.orchestration.evidence.diversity import diverse, diversity, error_agreement, panel_diversity


def test_all_of_one_kind_are_not_diverse_and_all_different_fully():
    assert (diversity(["x"]), diversity(["x", "x"]), diversity(["x", "y", "z"])) == (0.0, 0.0, 1.0)
    assert diversity(["x", "x", "y"]) == pytest.approx(2 / 3)
    assert panel_diversity(["gpt", "gpt"], ["openai", "azure"]) == 0.5


def test_a_panel_spans_families_before_it_repeats_one():
    kinds = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
    assert diverse(["a1", "a2", "b1", "c1"], kinds, 3) == ("a1", "b1", "c1")
    assert diverse(["a1", "a2", "b1"], kinds, 9) == ("a1", "b1", "a2")


def test_of_equal_families_a_panel_takes_the_provider_that_it_has_least_of():
    kinds = {name: name for name in ("a", "b", "c")}
    hosts = {"a": "one", "b": "one", "c": "two"}
    assert diverse(["a", "b", "c"], kinds, 2, providers=hosts) == ("a", "c")


def test_members_that_are_wrong_together_are_found():
    found = error_agreement({"a": [True, True, False, False], "b": [True, True, False, False], "c": [True, False, True, False]})
    assert found == {("a", "b"): pytest.approx(1), ("a", "c"): pytest.approx(0), ("b", "c"): pytest.approx(0)}
    assert error_agreement({"a": [], "b": []}) == {("a", "b"): 0.0}
