"""The service's event stream, read back; and whether a service is there at all."""

import asyncio
import socket

import pytest

from app.cli.asking.question import parse_options
from app.cli.asking.service import reachable, read_events
from app.config.spec import LLMProvider, QuorumSpec
from app.core.errors import OrchestratorError
from app.core.run_events import AnalysisFinished, CandidateFailed, CandidateFinished, OutputDelta, RunFinished
from app.orchestration.local import LocalRuntime
from app.orchestration.simple import SimpleOrchestrator
from tests.support.native import NativeEncoder

QUESTION = "Is tea good? [[mock: model=mock-terse fault=overloaded]]"


async def in_pieces(data, size):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_what_the_service_writes_is_read_back_as_the_same_events():
    instant = QuorumSpec(providers={"mock": LLMProvider(kind="mock", options={"latency_scale": 0})})
    async with LocalRuntime(instant) as runtime:
        strategy = SimpleOrchestrator(runtime)
        models = ["mock/mock-swift", "mock/mock-careful", "mock/mock-terse"]
        sent = [event async for event in strategy.stream(QUESTION, selected_models=models, analysis="peer_ranking")]
    encoder = NativeEncoder("run_x")
    data = b"".join(encoder.encode(event) for event in sent)

    got = [event async for event in read_events(in_pieces(data, 1000))]

    kinds = {type(event) for event in got}
    assert {CandidateFinished, CandidateFailed, AnalysisFinished, OutputDelta, RunFinished} <= kinds
    assert got == [event for event in sent if type(event) in kinds]


async def test_an_unknown_event_is_passed_over_and_a_malformed_one_is_an_error():
    data = b'event: novelty\ndata: {}\n\nevent: warning\ndata: {"message": "careful"}\n\nevent: warning\ndata: {"no": 1}\n\n'
    events = read_events(in_pieces(data, 7))

    assert (await anext(events)).message == "careful"
    with pytest.raises(OrchestratorError, match="warning"):
        await anext(events)


async def test_no_service_is_reachable_where_nothing_or_something_else_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not await reachable(f"http://127.0.0.1:{unused.getsockname()[1]}")

    async def other(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        assert not await reachable(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


def test_options_are_json_or_else_text():
    given = ["layers=2", "analysis=critique", 'weights={"a": 1}', "flag=true", "x=a=b", "empty="]
    assert parse_options(given) == {
        "layers": 2,
        "analysis": "critique",
        "weights": {"a": 1},
        "flag": True,
        "x": "a=b",
        "empty": "",
    }


@pytest.mark.parametrize("pair", ["layers", "=2", ""])
def test_an_option_without_name_or_value_is_refused(pair):
    with pytest.raises(ValueError, match="key=value"):
        parse_options([pair])
