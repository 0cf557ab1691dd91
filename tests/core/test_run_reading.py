"""What is written of a run is read back as it was."""

from __future__ import annotations

import orjson
from hypothesis import given, reject

from app.core.run_json import plain
from app.core.run_reading import read_result
from app.core.runs import OrchestrationOutput
from tests.core.made import results


@given(results())
def test_a_result_is_read_back_as_it_was(result: OrchestrationOutput) -> None:
    try:
        content = orjson.dumps(result, default=plain)
    except TypeError:  # integers of more than 64 bits, which no JSON of ours holds
        reject()
    assert read_result(content) == result
