"""consensus: members whose answers cannot be taken as they are do not bring the others down."""

from __future__ import annotations

import orjson
import pytest

from tests.orchestration.consensus.paneled import paneled, saying

JSON = {"type": "json"}


@pytest.mark.parametrize("aggregator", ["fields", "vote"])
@pytest.mark.parametrize(
    "odd", ['{"id": 99999999999999999999999}', r'{"id": "\ud800"}', '{"id": NaN}', '{"id": 1' + "0" * 400 + "}"]
)
async def test_json_that_cannot_be_passed_on_is_not_counted_and_the_run_goes_on(odd: str, aggregator: str) -> None:
    ran = await paneled(*saying(odd, '{"id": 1}', '{"id": 1}'), extract=JSON, aggregator=aggregator)
    assert ran.result.output.json == {"id": 1}
    assert ran.result.consensus is not None
    assert ran.result.consensus.agreement == 1
    assert any("'a'" in warning and "holds" in warning for warning in ran.result.warnings)
    orjson.dumps(ran.result)


async def test_empty_values_are_answers() -> None:
    ran = await paneled(*saying("[]", "[]", "[1]"), extract=JSON, aggregator="vote")
    assert (ran.result.output.json, ran.result.output.text) == ([], "[]")
    assert ran.result.consensus is not None
    assert ran.result.consensus.agreement == pytest.approx(2 / 3, abs=1e-4)
