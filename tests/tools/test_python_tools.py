from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from app.core.errors import ConfigError
from app.core.tools import ToolCaller
from app.tools.failures import BadArguments, PublicError
from app.tools.python_tools import load, tool, tool_of
from app.tools.toolbox import Toolbox
from tests.tools.conftest import ME, MakeToolbox

HERE = "tests.tools.test_python_tools"
SECRET = "hunter2"


@dataclass
class Stock:
    """What a warehouse has."""

    sku: str
    pieces: int
    by: str


@tool(name="stock", version="1.2", side_effect="read", cost_usd=0.001)
def stock(sku: str, warehouse: Literal["main", "south"] = "main", *, caller: ToolCaller) -> Stock:
    """How many pieces of an article there are.

    Longer words.

    Parameters:
        sku: the article's number,
            as on the label.
        warehouse (str): where.
    """
    return Stock(sku, 7, f"{caller.tenant} {threading.current_thread().name.partition('_')[0]}")


@tool(side_effect="pure", timeout_s=0.05)
async def slow() -> None:
    """Takes its time."""
    await asyncio.Event().wait()


@tool
def awkward(how: str) -> Any:
    """Does what one should not."""
    match how:
        case "raises":
            raise RuntimeError(f"postgres://app:{SECRET}@db does not answer")
        case "tells":
            raise PublicError("the shop is closed")
        case "shouts":
            raise PublicError("no " * 5_000)
        case "refuses":
            raise BadArguments("'how' should be kind")
        case "bytes":
            return b"\xff\x00ok"
        case _:
            return object()


@tool
def promises() -> int:
    """Gives what it does not promise."""
    return "a text"  # pyright: ignore


def boxed(toolbox: MakeToolbox, *names: str) -> Toolbox:
    return toolbox(python=[f"{HERE}:{name}" for name in names])


def test_the_schema_comes_from_the_signature_and_the_words_from_the_docstring() -> None:
    spec = load(f"{HERE}:stock").spec
    assert spec.description == "How many pieces of an article there are.\n\nLonger words."
    assert spec.input_schema == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "sku": {"type": "string", "description": "the article's number, as on the label."},
            "warehouse": {"type": "string", "enum": ["main", "south"], "default": "main", "description": "where."},
        },
        "required": ["sku"],
    }
    assert spec.output_schema is not None
    assert set(spec.output_schema["properties"]) == {"sku", "pieces", "by"}
    assert (spec.reference, spec.side_effect, spec.cost_usd) == ("stock@1.2.0", "read", 0.001)


async def test_a_plain_function_runs_in_a_thread_and_is_told_who_calls(toolbox: MakeToolbox) -> None:
    result = await boxed(toolbox, "stock").execute("stock", {"sku": "A1"}, ME)
    assert result.value == {"sku": "A1", "pieces": 7, "by": "acme tool"}
    assert result.cost_usd == 0.001


async def test_one_that_takes_too_long_is_left(toolbox: MakeToolbox) -> None:
    result = await boxed(toolbox, "slow").execute("slow", {}, ME)
    assert result.error is not None
    assert result.error.code == "tool_timeout"


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("tells", "tool_failed", "the tool 'awkward' failed: the shop is closed"),
        ("refuses", "invalid_request", "'how' should be kind"),
        ("object", "tool_failed", "no JSON"),
    ],
)
async def test_what_goes_wrong_is_in_the_result(toolbox: MakeToolbox, how: str, code: str, said: str) -> None:
    result = await boxed(toolbox, "awkward").execute("awkward", {"how": how}, ME)
    assert result.error is not None
    assert result.error.code == code
    assert said in result.error.message
    assert result.text == result.error.message


async def test_of_an_exception_the_class_alone_is_told_and_nothing_of_it_logged(toolbox: MakeToolbox) -> None:
    with capture_logs() as logged:
        result = await boxed(toolbox, "awkward").execute("awkward", {"how": "raises"}, ME)
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("tool_failed", "the tool 'awkward' failed: it raised RuntimeError")
    assert result.text == result.error.message
    (told,) = [one for one in logged if one["event"] == "a tool raised an exception"]
    assert (told["tool"], told["error_type"], told["where"].partition(":")[0]) == (
        "awkward",
        "RuntimeError",
        Path(__file__).name,
    )
    assert SECRET not in str(logged)


async def test_what_a_function_says_of_its_failure_is_bounded(toolbox: MakeToolbox) -> None:
    result = await boxed(toolbox, "awkward").execute("awkward", {"how": "shouts"}, ME)
    assert result.error is not None
    assert 2_000 < len(result.error.message) < 2_100


async def test_bytes_become_text(toolbox: MakeToolbox) -> None:
    assert (await boxed(toolbox, "awkward").execute("awkward", {"how": "bytes"}, ME)).value == "\ufffdok"


async def test_a_result_that_is_not_what_was_promised_is_none(toolbox: MakeToolbox) -> None:
    result = await boxed(toolbox, "promises").execute("promises", {}, ME)
    assert result.error is not None
    assert result.error.code == "tool_output_invalid"
    assert "'integer'" in result.error.message or "integer" in result.error.message


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("tests.tools.nothing:x", "cannot be imported"),
        (f"{HERE}:nothing", "there is no 'nothing'"),
        (f"{HERE}:boxed", "is no tool"),
    ],
)
def test_a_path_that_leads_to_no_tool_is_named(path: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(path)


def test_a_signature_without_a_schema_is_named() -> None:
    def rest(*words: str) -> None:
        """Words."""

    def bare(word) -> None:  # type: ignore[no-untyped-def]
        """Words."""

    def odd(where: threading.Thread) -> None:
        """Words."""

    def silent(word: str) -> None: ...

    for function, said in [(rest, "plain parameters"), (bare, "no annotation"), (odd, "no schema"), (silent, "no docstring")]:
        with pytest.raises(ConfigError, match=said):
            tool_of(function)
