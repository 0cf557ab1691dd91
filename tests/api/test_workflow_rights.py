"""Who may do what with workflows, with real keys: storing, running, what their steps call, and workflows as tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.state.embedded import EmbeddedValkey
from tests.api.test_tool_panels import asking, saying
from tests.api.test_workflows import TRIP, ask, do
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.serving import Serving, serving, upstream

pytestmark = pytest.mark.usefixtures("state")  # what is stored and asked for here would be there for others
SCOPES = {"admin": ["admin"], "run": ["run", "read"], "tools": ["run", "read", "tools"], "review": ["review"]}
ALLOW = {"effect": "allow", "tools": ["*"]}
FLOW = {"steps": {"a": do("a")}, "returns": "${steps.a.output.id}"}
BUYS = {
    "inputs": {"what": {"type": "string"}},
    "steps": {"buy": do("${inputs.what}")},
    "returns": "${steps.buy.output.id}",
    "as_tool": {"description": "Buys it."},
}


class House:
    """A service for the tenants `a` and `b`, each with a key of every kind in `SCOPES`. `did` is what the tool `do` was called
    with, `told` what models were told by tools. A model that is offered tools calls `buys` once."""

    service: Serving

    def __init__(self) -> None:
        self.did: list[str] = []
        self.told: list[Any] = []

    def answer(self, request: Received) -> Answer:
        if "chat" not in request.path:
            self.did.append(request.json["what"])
            return as_json({"id": f"id-{request.json['what']}"})
        results = [json.loads(message["content"]) for message in request.json["messages"] if message["role"] == "tool"]
        self.told += results
        if request.json.get("tools") and not results:
            return asking(request, "buys", what="book")
        return saying(request, "It is done.")

    async def ask(self, method: str, path: str, body: Any = None, key: str = "a-run") -> Any:
        """The status and the answer."""
        headers = {"Authorization": f"Bearer sk-{key}-0123456789"}
        said = await self.service.client.request(method, path, json=body, headers=headers)
        return said.status_code, (said.json() if said.content else None)

    async def run(self, name: str, key: str = "a-run", **body: Any) -> Any:
        return (await self.ask("POST", f"/v1/workflows/{name}/runs", {"inputs": {}, **body}, key))[1]

    async def ended(self, run_id: str, key: str = "a-run") -> Any:
        async with asyncio.timeout(20):
            while True:
                found = (await self.ask("GET", f"/v1/orchestrations/{run_id}", key=key))[1]
                if found["status"] not in ("queued", "running", "needs_approval"):
                    return found
                await asyncio.sleep(0.02)


@asynccontextmanager
async def house(directory: Path, valkey: EmbeddedValkey, *rules: Any, **workflows: Any) -> AsyncIterator[House]:
    found = House()
    async with Loopback(found.answer) as outside:
        host = outside.url.removeprefix("http://")
        tool = {"description": "Does it.", "method": "POST", "body": {"what": "{what}"}, "input": TRIP, "url": outside.url}
        tools = {"hosts": [host], "private_hosts": [host], "http": {"do": tool}, "permissions": list(rules)}
        keys = [
            {"name": f"{tenant}-{kind}", "key": f"sk-{tenant}-{kind}-0123456789", "tenant": tenant, "scopes": scopes}
            for tenant in "ab"
            for kind, scopes in SCOPES.items()
        ]
        config = {**upstream(outside.url), "tools": tools, "workflows": workflows, "keys": keys}
        async with serving(directory, valkey.url, config) as service:
            found.service = service
            yield found


INSIDE = {
    "step": FLOW,
    "map": {"steps": {"each": {"map": {"over": ["a"], "do": do("${item}")}}}},
    "sub-workflow": {"steps": {"in": {"workflow": {"name": "flow"}}}},
    "undo": {"steps": {"x": {**ask("Hm?"), "undo": do("no")}, "bad": {**do("bad"), "after": ["x"]}}},
    "workflow as a tool": {"steps": {"in": {"tool": {"name": "buys", "arguments": {"what": "a"}}}}},
}


@pytest.mark.parametrize("rule", [{"tenants": ["a"]}, {"scopes": ["tools"]}], ids=["tenant", "scope"])
@pytest.mark.parametrize("how", INSIDE)
async def test_a_workflow_may_call_what_its_caller_may(
    tmp_path: Path, valkey: EmbeddedValkey, how: str, rule: dict[str, Any]
) -> None:
    rules = ({**rule, "effect": "allow", "tools": ["do"]}, {"effect": "allow", "tools": ["buys"]})
    async with house(tmp_path, valkey, *rules, flow=FLOW, it=INSIDE[how], buys=BUYS) as there:
        for body in ({}, {"background": True}):
            said = await there.run("it", "b-run", **body)
            if body:
                async with asyncio.timeout(20):
                    while said.get("status") in ("queued", "running"):
                        said = (await there.ask("GET", f"/v1/orchestrations/{said['id']}", key="b-run"))[1]
            error = said["error"]
            assert error["code"] == "tool_forbidden", said
            assert there.did == []
        assert (await there.run("flow", "a-tools"))["output"]["text"] == "id-a"


async def test_only_admins_store_and_remove(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey, ALLOW) as there:
        definition = {"name": "it", **FLOW}
        for kind in ("run", "tools", "review"):
            assert (await there.ask("POST", "/v1/workflows", definition, f"a-{kind}"))[0] == 403
            assert (await there.ask("GET", "/v1/workflows/it", key="a-admin"))[0] == 404
        assert (await there.ask("POST", "/v1/workflows", definition, "a-admin"))[0] == 201
        for kind in ("run", "tools", "review"):
            assert (await there.ask("DELETE", "/v1/workflows/it", key=f"a-{kind}"))[0] == 403
        assert (await there.ask("POST", "/v1/workflows/it/runs", {}, "a-review"))[0] == 403
        assert (await there.run("it"))["output"]["text"] == "id-a"
        assert (await there.ask("DELETE", "/v1/workflows/it", key="a-admin"))[0] == 204


async def test_tenants_see_and_run_only_their_own_of_a_name(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    outer = {"name": "outer", "steps": {"in": {"workflow": {"name": "it"}}}, "returns": "${steps.in.output}"}
    async with house(tmp_path, valkey, ALLOW) as there:
        for tenant in "ab":
            for number in range(2 if tenant == "a" else 1):
                step = {"transform": {"value": f"of {tenant}, {number}"}}
                definition = {
                    "name": "it",
                    "description": tenant,
                    "steps": {f"s{tenant}": step},
                    "returns": f"${{steps.s{tenant}.output}}",
                }
                assert (await there.ask("POST", "/v1/workflows", definition, f"{tenant}-admin"))[0] == 201
            assert (await there.ask("POST", "/v1/workflows", outer, f"{tenant}-admin"))[0] == 201
        for tenant, text, versions in (("a", "of a, 1", [1, 2]), ("b", "of b, 0", [1])):
            key = f"{tenant}-run"
            for name in ("it", f"it@{versions[-1]}", "outer"):
                assert (await there.run(name, key))["output"]["text"] == text
            listed = (await there.ask("GET", "/v1/workflows", key=key))[1]["data"]
            assert [(one["name"], one["versions"], one["description"]) for one in listed] == [
                ("it", versions, tenant),
                ("outer", [1], None),
            ]
            assert list((await there.ask("GET", "/v1/workflows/it", key=key))[1]["definition"]["steps"]) == [f"s{tenant}"]
            assert (await there.ask("GET", "/v1/workflows/it/diagram", key=key))[1]["steps"] == {f"s{tenant}": "waiting"}
        assert (await there.run("it@2", "b-run"))["status"] == 404
        run_id = (await there.run("it"))["id"]
        assert (await there.ask("GET", f"/v1/workflows/it/diagram?run_id={run_id}", key="b-run"))[0] == 404
        assert (await there.ask("DELETE", "/v1/workflows/it", key="b-admin"))[0] == 204
        assert (await there.run("it", "b-run"))["status"] == 404
        assert (await there.run("it"))["output"]["text"] == "of a, 1"


async def test_a_workflow_that_is_a_tool_is_permitted_like_one(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    scoped = {**BUYS, "as_tool": {"description": "Buys it.", "scopes": ["review"]}}
    rules = ({"effect": "allow", "tools": ["buys", "scoped", "do"], "tenants": ["a"]}, {"effect": "allow", "tools": ["do"]})
    uses = {"steps": {"in": {"tool": {"name": "buys", "arguments": {"what": "b"}}}}, "returns": "${steps.in.output}"}
    async with house(tmp_path, valkey, *rules, buys=BUYS, scoped=scoped, uses=uses) as there:
        execute, body = "/v1/tools/{}/execute", {"arguments": {"what": "a"}}
        for name, key, code in [
            ("buys", "b-tools", "tool_forbidden"),
            ("scoped", "a-tools", "tool_forbidden"),
            ("buys", "a-run", "forbidden"),
        ]:
            status, said = await there.ask("POST", execute.format(name), body, key)
            assert (status, said["error"]["code"]) == (403, code), said
        said = await there.run("uses", "b-run")
        assert (said["status"], said["error"]["code"]) == (403, "tool_forbidden")
        assert there.did == []
        assert (await there.ask("POST", execute.format("buys"), body, "a-tools"))[1]["result"] == "id-a"
        assert (await there.run("uses"))["output"]["text"] == "id-b"
        assert there.did == ["a", "b"]


ACTING = [("tools", ["m"]), ("consensus", ["m", "m2"]), ("simple", ["m", "m2"])]


@pytest.mark.parametrize(("strategy", "models"), ACTING)
async def test_a_step_of_a_tool_that_needs_a_person_is_refused_and_the_model_is_told(
    tmp_path: Path, valkey: EmbeddedValkey, strategy: str, models: list[str]
) -> None:
    rules = ({"effect": "approve", "tools": ["do"]}, {"effect": "allow", "tools": ["buys"]})
    async with house(tmp_path, valkey, *rules, buys=BUYS) as there:
        body = {"input": "Buy it.", "strategy": strategy, "models": models, "options": {"tools": ["buys"]}}
        status, said = await there.ask("POST", "/v1/orchestrations", body, "a-tools")
        assert (status, said["status"]) == (200, "succeeded"), said
        assert there.did == []
        assert said["output"]["text"] == "It is done."
        assert all(one["error"]["code"] == "approval_needed" for one in there.told), there.told
        assert there.told
        assert (await there.ask("GET", "/v1/approvals", key="a-review"))[1]["data"] == []


@pytest.mark.parametrize("decision", ["approve", "deny"])
@pytest.mark.parametrize(("strategy", "models"), ACTING)
async def test_a_workflow_that_is_a_tool_waits_for_a_person_and_is_done_once_or_not_at_all(
    tmp_path: Path, valkey: EmbeddedValkey, strategy: str, models: list[str], decision: str
) -> None:
    rules = ({"effect": "approve", "tools": ["buys"]}, {"effect": "allow", "tools": ["do"]})
    async with house(tmp_path, valkey, *rules, buys=BUYS) as there:
        body = {"input": "Buy it.", "strategy": strategy, "models": models, "options": {"tools": ["buys"]}}
        status, said = await there.ask("POST", "/v1/orchestrations", body, "a-tools")
        assert (status, said["status"], there.did) == (202, "needs_approval", []), said
        (approval,) = said["approvals"]
        assert (await there.ask("POST", f"/v1/approvals/{approval['id']}", {"decision": decision}, "b-review"))[0] == 404
        assert (await there.ask("POST", f"/v1/approvals/{approval['id']}", {"decision": decision}, "a-review"))[0] == 200
        found = await there.ended(said["id"])
        assert (found["status"], found["output"]["text"]) == ("succeeded", "It is done."), found
        assert there.did == (["book"] if decision == "approve" else [])
        if decision == "approve":
            assert {"result": "id-book"} in there.told
        else:
            assert all("error" in one for one in there.told)


STEP_BY_STEP = {
    "steps": {
        "a": {**do("a"), "undo": do("no a")},
        "in": {"workflow": {"name": "inner"}, "after": ["a"]},
        "paid": {"wait": {"signal": "paid"}, "after": ["in"]},
        "then": do("then ${steps.paid.output}"),
    }
}
INNER = {"steps": {"b": {**do("b"), "undo": do("no b")}}}


def gone(keys: list[Any]) -> list[Any]:
    return [one for one in keys if one["name"] != "a-run"]


def of_another_tenant(keys: list[Any]) -> list[Any]:
    return [{**one, "tenant": "b"} if one["name"] == "a-run" else one for one in keys]


def reading_only(keys: list[Any]) -> list[Any]:
    return [{**one, "scopes": ["read"]} if one["name"] == "a-run" else one for one in keys]


CHANGES = [(gone, "unauthorized"), (of_another_tenant, "unauthorized"), (reading_only, "forbidden")]


async def changed(there: House, change: Callable[[Any], None]) -> None:
    config = yaml.safe_load(there.service.config.read_text())
    change(config)
    there.service.configure(config)
    status = 503  # where the audit trail's store is slower than its 250 ms, and the reload is to be asked for again
    while status == 503:
        status, _ = await there.ask("POST", "/v1/admin/reload", key="a-admin")
    assert status == 200


async def waits(there: House, said: Any) -> str:
    """The id of a run that has come to its wait."""
    async with asyncio.timeout(20):
        while said["status"] != "needs_approval":
            said = (await there.ask("GET", f"/v1/orchestrations/{said['id']}", key="a-admin"))[1]
            await asyncio.sleep(0.02)
    return said["id"]


@pytest.mark.parametrize("wakes", ["signal", "cancel"])
@pytest.mark.parametrize(("change", "code"), CHANGES)
@pytest.mark.parametrize("body", [{}, {"background": True}], ids=["here", "background"])
async def test_a_run_that_its_key_may_not_have_run_any_more_is_taken_back(
    tmp_path: Path,
    valkey: EmbeddedValkey,
    body: dict[str, Any],
    change: Callable[[list[Any]], list[Any]],
    code: str,
    wakes: str,
) -> None:
    async with house(tmp_path, valkey, ALLOW, flow=STEP_BY_STEP, inner=INNER) as there:
        run_id = await waits(there, await there.run("flow", **body))
        assert there.did == ["a", "b"]
        await changed(there, lambda config: config.update(keys=change(config["keys"])))
        if wakes == "cancel":
            assert (await there.ask("POST", f"/v1/orchestrations/{run_id}/cancel", key="a-tools"))[0] in (200, 202)
        else:
            sent = {"name": "paid", "payload": 7}
            assert (await there.ask("POST", f"/v1/orchestrations/{run_id}/signals", sent, "a-tools"))[0] == 200
        found = await there.ended(run_id, "a-admin")
        assert (found["status"], found["error"]["code"]) == ("failed", code), found
        assert there.did == ["a", "b", "no b", "no a"]
        calls = (await there.ask("GET", f"/v1/audit?run_id={run_id}&action=tool.execute", key="a-admin"))[1]["data"]
        assert {one["actor"]["name"] for one in calls if one["decision"] == "done"} == {"a-run"}, calls


async def test_what_takes_back_is_permitted_by_the_rules_of_then_for_who_has_asked(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    rule = {"effect": "allow", "tools": ["do"], "tenants": ["a"], "scopes": ["tools"]}
    async with house(tmp_path, valkey, rule, flow=STEP_BY_STEP, inner=INNER) as there:
        for undone in (["no b", "no a"], []):
            there.did.clear()
            run_id = await waits(there, await there.run("flow", "a-tools"))
            keys = yaml.safe_load(there.service.config.read_text())["keys"]

            def without(config: Any, allowed: bool = bool(undone)) -> None:
                config["keys"] = [one for one in config["keys"] if one["name"] != "a-tools"]
                if not allowed:
                    config["tools"]["permissions"] = [{**rule, "effect": "deny"}]

            await changed(there, without)
            await there.ask("POST", f"/v1/orchestrations/{run_id}/signals", {"name": "paid", "payload": 7}, "a-run")
            found = await there.ended(run_id, "a-admin")
            assert (found["error"]["code"], there.did) == ("unauthorized", ["a", "b", *undone])
            assert [("'in/b'" in one, "'a'" in one) for one in found["warnings"]] == (
                [] if undone else [(True, False), (False, True)]
            )
            await changed(there, lambda config, before=keys: config.update(keys=before))


async def test_a_run_whose_key_is_gone_is_taken_back_though_no_budget_is_left(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey, ALLOW, flow=STEP_BY_STEP, inner=INNER) as there:
        run_id = await waits(there, await there.run("flow"))

        def counted(config: Any, tokens: int = 1_000_000) -> None:
            config["keys"] = gone(config["keys"])
            config["tenants"] = {"a": {"budget": {"tokens_per_day": tokens}}}

        await changed(there, counted)
        body = {"input": "Hm?", "strategy": "direct", "models": ["m"]}
        assert (await there.ask("POST", "/v1/orchestrations", body, "a-tools"))[0] == 200
        await changed(there, partial(counted, tokens=1))
        said = await there.run("flow", "a-tools")
        assert (said["error"] or {}).get("code") == "budget_exceeded", said["status"]
        await there.ask("POST", f"/v1/orchestrations/{run_id}/signals", {"name": "paid", "payload": 7}, "a-tools")
        found = await there.ended(run_id, "a-admin")
        assert (found["error"]["code"], there.did) == ("unauthorized", ["a", "b", "no b", "no a"])


@pytest.mark.parametrize("body", [{}, {"background": True}], ids=["here", "background"])
async def test_a_run_is_taken_back_where_its_tenants_daily_budget_is_overdrawn_when_it_is_to_go_on(
    tmp_path: Path, valkey: EmbeddedValkey, body: dict[str, Any]
) -> None:
    async with house(tmp_path, valkey, ALLOW, flow=STEP_BY_STEP, inner=INNER) as there:

        def counted(config: Any, tokens: int = 1_000_000) -> None:
            config["tenants"] = {"a": {"budget": {"tokens_per_day": tokens}}}

        await changed(there, counted)
        run_id = await waits(there, await there.run("flow", **body))
        assert there.did == ["a", "b"]
        question = {"input": "Hm?", "strategy": "direct", "models": ["m"]}
        assert (await there.ask("POST", "/v1/orchestrations", question))[0] == 200
        await changed(there, partial(counted, tokens=1))
        await there.ask("POST", f"/v1/orchestrations/{run_id}/signals", {"name": "paid", "payload": 7})
        found = await there.ended(run_id)
        assert (found["status"], found["error"]["code"]) == ("failed", "budget_exceeded"), found
        assert there.did == ["a", "b", "no b", "no a"]
