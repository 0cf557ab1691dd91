"""MCP servers, real ones, over stdio and over streamable HTTP: used, killed in the middle, and shared by processes."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app.config.tools import ToolsConfig
from app.core.clock import SystemClock
from app.core.errors import ErrorReport, ToolExecutionError
from app.core.tools import ToolResult
from app.observability.metrics import REGISTRY
from app.tools.mcp.starting import RelayProcess
from app.tools.mcp.tools import tool_name
from app.tools.toolbox import Toolbox
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.ports import free_port
from tests.support.service import ROOT
from tests.support.serving import until
from tests.tools.conftest import ALL, ME, MakeToolbox

pytestmark = pytest.mark.timeout(120)
UP_S = 30.0


def program(notes: Path, **more: Any) -> dict[str, Any]:
    """A configured MCP server that is a program."""
    command = [sys.executable, "-m", "tests.support.mcp_server", str(notes)]
    return {"command": command, "env": {"PYTHONPATH": str(ROOT)}, "cwd": str(ROOT), "connect_s": 30, **more}


ROUGH = {"command": [sys.executable, str(ROOT / "tests" / "support" / "rough_mcp_server.py")], "connect_s": 30}


@contextmanager
def listening(notes: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server over HTTP, in a process of its own."""
    command = [sys.executable, "-m", "tests.support.mcp_server", str(notes), str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def is_up(box: Toolbox, name: str) -> bool:
    return any(one.spec.name.startswith(f"{name}__") and one.tool.unavailable is None for one in box.all())


def is_down(box: Toolbox, name: str) -> bool:
    return all(one.tool.unavailable is not None for one in box.all() if one.spec.name.startswith(f"{name}__"))


@asynccontextmanager
async def connected(box: Toolbox, *names: str) -> AsyncIterator[Toolbox]:
    """`box` with the servers `names` up; nothing is left of it afterwards."""
    box.start()
    try:
        for name in names:
            await until(lambda name=name: is_up(box, name), within_s=UP_S)
        yield box
    finally:
        await box.close()


async def ok(box: Toolbox, reference: str, **arguments: Any) -> Any:
    result = await box.execute(reference, arguments, ME)
    assert result.error is None, result.error
    return result.value


def fault(result: ToolResult) -> ErrorReport:
    assert result.error is not None
    return result.error


def up(name: str) -> float:
    """What the metric says of a server."""
    found = REGISTRY.get_sample_value("quorum_mcp_server_up", {"server": name})
    assert found is not None
    return found


def started(notes: Path) -> list[int]:
    """The processes of the program that were started, in their order."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [int(line.removeprefix("pid ")) for line in lines if line.startswith("pid ")]


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


async def test_a_program_and_a_url_are_used_alike(toolbox: MakeToolbox, notes: Path, tmp_path: Path) -> None:
    port = free_port()
    box = toolbox(mcp={"near": program(notes), "far": {"url": f"http://127.0.0.1:{port}/mcp"}})
    with listening(tmp_path / "other", port):
        async with connected(box, "near", "far"):
            for name in ("near", "far"):
                assert await ok(box, f"{name}__add", a=17, b=23) == {"result": 40}
                assert await ok(box, f"{name}__echo", text="grüße") == "grüße"
                told = await ok(box, f"{name}__meta")
                assert ME.request_id in told
                assert str(ME.traceparent) in told
                assert ME.run_id in told
                broken = fault(await box.execute(f"{name}__broken", {}, ME))
                assert broken.code == "tool_failed"
                long = await box.execute(f"{name}__large", {"size": 10_000_000}, ME)
                assert long.truncated
                assert len(long.text) == 100_000
                assert "\x1b" not in await ok(box, f"{name}__strange")
                spec = box.find(f"{name}__add").spec
                assert (spec.source, spec.side_effect, spec.description) == ("mcp", "write", "Adds two numbers.")
            pid = started(notes)[0]
    assert not lives(pid)


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("bytes", "caf\ufffd \ufffd\ufffd ok"),
        ("noise", "after the noise"),
        ("huge", "x" * 1_000),
        ("deep", None),
        ("fat", None),
        ("wrong", None),
        ("silent", None),
        ("endless", None),
    ],
)
async def test_what_a_rough_server_says_is_bounded_data(toolbox: MakeToolbox, tool: str, said: str | None) -> None:
    box = toolbox(mcp={"rough": {**ROUGH, "timeout_s": 2, "max_result_bytes": 1_000}})
    async with connected(box, "rough"):
        result = await box.execute(f"rough__{tool}", {}, ME)
        if said is not None:
            assert result.value == said
        else:
            assert len(result.text.encode()) <= 2_100
            assert (result.error is not None) or result.truncated
        again = await box.execute("rough__noise", {}, ME)
        async with asyncio.timeout(UP_S):
            while again.error is not None:  # where it has to be started again
                await asyncio.sleep(0.1)
                again = await box.execute("rough__noise", {}, ME)
        assert again.value == "after the noise"


@pytest.mark.parametrize("wait_s", [0.0, 0.2, 0.5, 1.0])
async def test_a_program_that_is_being_ended_is_ended_though_nobody_wants_it_any_more(
    toolbox: MakeToolbox, tmp_path: Path, wait_s: float
) -> None:
    box = toolbox(mcp={"rough": {**ROUGH, "timeout_s": 1}})
    async with connected(box, "rough"):
        await box.execute("rough__endless", {}, ME)
        await until(lambda: is_down(box, "rough"), within_s=UP_S)
        [relay] = relays(tmp_path)
        [program] = children(relay)
        await asyncio.sleep(wait_s)  # into its closing, which takes seconds
    await until(lambda: not lives(relay) and not lives(program), within_s=15)


async def test_a_program_that_says_a_line_without_end_is_ended_and_says_why(toolbox: MakeToolbox, tmp_path: Path) -> None:
    box = toolbox(mcp={"rough": {**ROUGH, "timeout_s": 60}})
    async with connected(box, "rough"):
        began = time.monotonic()
        failure = fault(await box.execute("rough__endless", {}, ME))
        assert "went away while it worked (it said a line of more than 16777216 bytes, and was ended)" in failure.message
        took_s = time.monotonic() - began
        [relay] = relays(tmp_path)
        resident_mb = resident_bytes(relay) / 1e6
        await until(lambda: is_up(box, "rough"), within_s=UP_S)
        assert await ok(box, "rough__noise") == "after the noise"
    print(f"ended after {took_s:.1f} s, with {resident_mb:.0f} MB in the relay")
    assert resident_mb < 400


async def test_a_server_that_lists_pages_without_end_is_up_with_the_first(toolbox: MakeToolbox) -> None:
    box = toolbox(mcp={"rough": {**ROUGH, "command": [*ROUGH["command"], "pages"]}})
    async with connected(box, "rough"):
        assert await ok(box, "rough__noise") == "after the noise"


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("application/json", {}, "has more than 16777216 bytes"),
        ("application/json", {"content-encoding": "gzip"}, "answers compressed"),
        ("text/event-stream", {}, ""),
        ("text/event-stream", {"content-encoding": "gzip"}, ""),
    ],
)
async def test_a_url_that_answers_without_end_is_not_read_to_its_end(
    toolbox: MakeToolbox, tmp_path: Path, kind: str, more: dict[str, str], said: str
) -> None:
    """Forty megabytes are more than is taken of any answer."""

    def answers(request: Received) -> Answer:
        asked = request.json if request.body else {}
        match asked.get("method"):
            case "initialize":
                about = {"serverInfo": {"name": "rough", "version": "1"}, "capabilities": {"tools": {}}}
                result: Any = {"protocolVersion": asked["params"]["protocolVersion"], **about}
            case "tools/list":
                result = {"tools": [{"name": "fat", "inputSchema": {"type": "object"}}]}
            case "tools/call":
                return Answer(headers={"content-type": kind, **more}, body=b'data: {"a": "' + b"x" * 40_000_000)
            case _ if "id" in asked:
                return as_json({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no such method"}})
            case _:
                return Answer(202 if asked else 405, body=b"")
        return as_json({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    async with Loopback(answers) as server:
        box = toolbox(mcp={"far": {"url": f"{server.url}/mcp", "timeout_s": 20}})
        async with connected(box, "far"):
            failure = fault(await box.execute("far__fat", {}, ME))
            [relay] = relays(tmp_path)
            assert failure.code == "tool_failed"
            assert said in failure.message
            assert resident_bytes(relay) < 400e6


async def test_a_program_that_is_killed_in_the_middle_is_told_and_started_again(toolbox: MakeToolbox, notes: Path) -> None:
    box = toolbox(mcp={"near": program(notes)})
    async with connected(box, "near"):
        hanging = asyncio.ensure_future(box.execute("near__hang", {}, ME))
        await until(lambda: "hanging" in notes.read_text(), within_s=UP_S)
        killed_at = time.monotonic()
        os.kill(started(notes)[0], signal.SIGKILL)
        failure = fault(await hanging)
        told_s = time.monotonic() - killed_at
        assert failure.code == "tool_failed"
        assert "went away while it worked; whether the call took effect is not known" in failure.message
        away = fault(await box.execute("near__pid", {}, ME))
        assert away.code == "tool_unavailable"
        assert away.retry_after is not None
        await until(lambda: is_up(box, "near"), within_s=UP_S)
        assert int(await ok(box, "near__pid")) == started(notes)[-1]
        print(f"told after {told_s * 1000:.0f} ms, up again after {time.monotonic() - killed_at:.1f} s")
    assert told_s < 5


async def test_a_url_that_goes_away_is_told_and_found_again(toolbox: MakeToolbox, tmp_path: Path) -> None:
    port, notes = free_port(), tmp_path / "far"
    box = toolbox(mcp={"far": {"url": f"http://127.0.0.1:{port}/mcp"}})
    async with started_only(box):
        with listening(notes, port) as process:
            await until(lambda: is_up(box, "far"), within_s=UP_S)
            hanging = asyncio.ensure_future(box.execute("far__hang", {}, ME))
            await until(lambda: "hanging" in notes.read_text(), within_s=UP_S)
            process.kill()
            assert "went away while it worked" in fault(await hanging).message
            await until(lambda: is_down(box, "far"), within_s=UP_S)
            assert up("far") == 0
            assert fault(await box.execute("far__add", {"a": 1, "b": 2}, ME)).code == "tool_unavailable"
        with listening(notes, port):
            await until(lambda: is_up(box, "far"), within_s=UP_S)
            assert await ok(box, "far__add", a=1, b=2) == {"result": 3}


async def test_a_call_to_a_url_that_has_gone_while_nobody_called_was_never_sent(toolbox: MakeToolbox, tmp_path: Path) -> None:
    port, notes = free_port(), tmp_path / "far"
    box = toolbox(mcp={"far": {"url": f"http://127.0.0.1:{port}/mcp"}})
    async with started_only(box):
        with listening(notes, port) as process:
            await until(lambda: is_up(box, "far"), within_s=UP_S)
            assert await ok(box, "far__add", a=1, b=2) == {"result": 3}
            process.kill()
            process.wait()
            result = await box.execute("far__note", {"text": "x"}, ME)
        assert (fault(result).code, result.untried) == ("tool_unavailable", True)
        assert "nothing of the call was sent" in fault(result).message
        await until(lambda: is_down(box, "far"), within_s=UP_S)


@asynccontextmanager
async def started_only(box: Toolbox) -> AsyncIterator[None]:
    box.start()
    try:
        yield
    finally:
        await box.close()


async def test_several_processes_share_one_program(notes: Path, tmp_path: Path, toolbox: MakeToolbox) -> None:
    """Each toolbox stands for a worker: they share nothing but the data directory."""
    workers = [toolbox(mcp={"near": program(notes)}) for _ in range(4)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            await until(lambda worker=worker: is_up(worker, "near"), within_s=UP_S)
        seen = {int(await ok(worker, "near__pid")) for worker in workers}
        assert list(seen) == started(notes)
        for worker in workers[:3]:
            await worker.close()
        assert int(await ok(workers[3], "near__pid")) in seen
    finally:
        for worker in workers:
            await worker.close()
    assert not any(lives(pid) for pid in seen)
    assert len(started(notes)) == 1


async def test_a_relay_that_is_killed_is_started_again_and_takes_its_programs_with_it(
    toolbox: MakeToolbox, notes: Path, tmp_path: Path
) -> None:
    box = toolbox(mcp={"near": program(notes)})
    async with connected(box, "near"):
        [first] = started(notes)
        hanging = asyncio.ensure_future(box.execute("near__hang", {}, ME))
        await until(lambda: "hanging" in notes.read_text(), within_s=UP_S)
        [relay] = relays(tmp_path)
        os.kill(relay, signal.SIGKILL)
        assert "went away while it worked" in fault(await hanging).message
        await until(lambda: len(started(notes)) == 2 and is_up(box, "near"), within_s=UP_S)
        assert int(await ok(box, "near__pid")) == started(notes)[1]
        await until(lambda: not lives(first), within_s=UP_S)
    assert relays(tmp_path) == []


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that live."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return [one for one in found if lives(one)]


def relays(data_dir: Path) -> list[int]:
    """The relays of a data directory that live."""
    found: list[int] = []
    listens = bytes(RelayProcess(data_dir).socket)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"app.tools.mcp.relay" in words and listens in words and lives(int(entry.name)):
                    found.append(int(entry.name))
    return found


async def test_a_reload_ends_servers_that_are_gone_and_leaves_the_others(
    toolbox: MakeToolbox, notes: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    box = toolbox(mcp={"near": program(notes, timeout_s=1), "next": program(other)})
    async with connected(box, "near", "next"):
        hanging = asyncio.ensure_future(box.execute("near__hang", {}, ME))
        await until(lambda: "hanging" in notes.read_text(), within_s=UP_S)
        box.configure(ToolsConfig.model_validate({"permissions": [ALL], "mcp": {"next": program(other, timeout_s=7)}}))
        assert fault(await hanging).code == "tool_timeout"  # it was let go on, to its own end
        assert [one.spec.timeout_s for one in box.all() if one.spec.name == "next__add"] == [7]
        assert not any(one.spec.name.startswith("near__") for one in box.all())
        assert (math.isnan(up("near")), up("next")) == (True, 1)
        await until(lambda: not lives(started(notes)[0]), within_s=UP_S)
        assert int(await ok(box, "next__pid")) == started(other)[0]
    assert (len(started(notes)), len(started(other))) == (1, 1)


async def test_terms_come_from_the_configuration_and_only_what_is_listed_is_served(toolbox: MakeToolbox, notes: Path) -> None:
    terms = {"side_effect": "read", "only": ["add", "note"], "tools": {"note": {"side_effect": "write", "scopes": ["review"]}}}
    box = toolbox(mcp={"near": program(notes, version="2.1", **terms)})
    async with connected(box, "near"):
        served = [one.spec for one in box.all() if one.spec.source == "mcp"]
        assert [(one.reference, one.side_effect, set(one.scopes)) for one in served] == [
            ("near__add@2.1.0", "read", set()),
            ("near__note@2.1.0", "write", {"review"}),
        ]


def why_away(box: Toolbox, words: str) -> str | None:
    """What is said of a tool of the server `near`, once that has `words`."""
    try:
        box.find("near__add")
    except ToolExecutionError as error:
        return error.message if words in error.message else None


async def test_a_server_that_does_not_start_says_why(toolbox: MakeToolbox) -> None:
    box = toolbox(mcp={"near": {"command": ["/no/such/program"]}})
    async with started_only(box):
        assert "'/no/such/program'" in await until(lambda: why_away(box, "not found"), within_s=UP_S)


@pytest.mark.parametrize("directory", ["d", "too-long-for-a-socket-" + "x" * 90], ids=["short", "long"])
async def test_a_program_that_ends_at_once_says_where_what_it_wrote_is(tmp_path: Path, directory: str) -> None:
    data_dir = tmp_path / directory
    tools = {"permissions": [ALL], "mcp": {"near": {"command": [sys.executable, "-c", "raise SystemExit('no licence')"]}}}
    box = Toolbox(ToolsConfig.model_validate(tools), SystemClock(), data_dir)
    async with started_only(box):
        found = await until(lambda: why_away(box, " is away: "), within_s=UP_S)
    assert found.endswith("its MCP server is away: it ended; what it wrote is in mcp/near.log of the data directory")
    assert "no licence" in (data_dir / "mcp" / "near.log").read_text()


async def test_a_call_that_nobody_waits_for_is_cancelled(toolbox: MakeToolbox, notes: Path) -> None:
    box = toolbox(mcp={"near": program(notes, timeout_s=0.2)})
    async with connected(box, "near"):
        assert fault(await box.execute("near__hang", {}, ME)).code == "tool_timeout"
        assert await ok(box, "near__add", a=1, b=2) == {"result": 3}


def test_a_worker_does_not_load_the_library() -> None:
    """It takes 57 MB, and the relay alone needs it."""
    told = subprocess.run(
        [sys.executable, "-c", "import app.main, sys; print('mcp' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "False"


def test_names_are_what_vendors_take() -> None:
    assert tool_name("files", "read_file") == "files__read_file"
    assert tool_name("files", "fs/read.file é") == "files__fs_read_file__"
    long = [tool_name("files", "x" * 100 + end) for end in "ab"]
    assert all(len(name) == 64 for name in long)
    assert long[0] != long[1]
