"""Values are compared and hashed by what they hold, and hold nothing else."""

from __future__ import annotations

from dataclasses import is_dataclass, replace

import pytest

from app.core import chat, embeddings, messages, model_events, run_events, runs, usage
from app.core.usage import Usage

MADE_OFTEN = [
    one
    for module in (chat, embeddings, messages, model_events, run_events, runs, usage)
    for one in vars(module).values()
    if is_dataclass(one) and isinstance(one, type) and one.__module__ == module.__name__ and one is not chat.CallContext
]


def test_values_that_hold_the_same_are_one_and_the_same_to_sets_and_comparisons() -> None:
    assert Usage(1, 2) == Usage(1, 2) != Usage(2, 1)
    assert {Usage(1, 2), Usage(1, 2), replace(Usage(1, 0), output_tokens=2)} == {Usage(1, 2)}


@pytest.mark.parametrize("kind", MADE_OFTEN, ids=lambda kind: kind.__name__)
def test_a_value_has_its_members_alone_and_is_made_without_a_call_for_each(kind: type) -> None:
    assert "__dict__" not in dir(kind)
    assert kind.__setattr__ is object.__setattr__
    assert kind.__hash__ is not None
