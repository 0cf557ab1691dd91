"""What a process knows of workflows: what it checks again and when, and what it holds open."""

from __future__ import annotations

import zlib
from typing import Any

import orjson
import pytest

from app.config.spec import QuorumSpec
from app.config.workflows import WorkflowConfig
from app.core.errors import InvalidRequest, NotFound
from app.state.workflows import Changed, StoredVersion
from app.workflows.known import Known
from app.workflows.library import Library
from app.workflows.opening import Opened

CALLS = {"steps": {"in": {"workflow": {"name": "called"}}}}
ASKS = {"steps": {"a": {"orchestration": {"strategy": "direct", "input": "Hm?"}}}}


class World:
    """A library, and how often something was checked."""

    def __init__(self) -> None:
        self.checks = 0
        self.fault: list[tuple[tuple[str, ...], str]] = []
        self.library = Library(QuorumSpec(), self.known())
        self._versions: dict[tuple[str, str], tuple[StoredVersion, ...]] = {}

    def known(self) -> Known:
        def orchestration(_: Any) -> Any:
            self.checks += 1
            return self.fault

        return Known(orchestration=orchestration)

    def put(self, name: str, definition: dict[str, Any], tenant: str = "a") -> None:
        before = self._versions.get((tenant, name), ())
        self._versions[tenant, name] = (*before, stored(name, definition, len(before) + 1, tenant))
        self.library.change(Changed(False, {(tenant, name): self._versions[tenant, name]}))

    def remove(self, name: str, tenant: str = "a") -> None:
        self.library.change(Changed(False, {(tenant, name): ()}))


def stored(name: str, definition: dict[str, Any], version: int = 1, tenant: str = "a") -> StoredVersion:
    body = orjson.dumps(definition)
    return StoredVersion(tenant, name, version, 7, None, len(body), zlib.compress(body))


def test_a_workflow_is_checked_once_whatever_else_changes() -> None:
    world = World()
    world.put("it", {"steps": {**ASKS["steps"], **CALLS["steps"]}})
    world.put("called", {"steps": {"a": {"transform": {"value": 1}}}})
    for number in range(5):
        assert world.library.runnable("a", "it").version == 1
        world.put(f"other{number}", ASKS)
        world.put("called", ASKS, tenant="b")
    assert world.checks == 1
    world.library.configure(QuorumSpec(), world.known())
    world.fault = [(("strategy",), "is out of use")]
    with pytest.raises(InvalidRequest, match="is out of use"):
        world.library.runnable("a", "it")
    assert world.checks == 2


def test_a_workflow_is_checked_again_where_one_changes_that_it_calls_also_through_others() -> None:
    world = World()
    world.put("it", {"steps": {"in": {"workflow": {"name": "between"}}}})
    world.put("between", CALLS)
    world.put("called", ASKS)
    world.library.runnable("a", "it")
    world.put("called", {"steps": {"back": {"workflow": {"name": "it"}}}})
    with pytest.raises(InvalidRequest, match="runs inside of itself"):
        world.library.runnable("a", "it")
    world.put("called", ASKS)
    world.library.runnable("a", "it")
    world.remove("between")
    with pytest.raises(InvalidRequest, match="'between'"):
        world.library.runnable("a", "it")
    world.put("between", CALLS)
    world.library.runnable("a", "it")


def test_what_a_workflow_has_not_is_looked_for_again() -> None:
    world = World()
    world.put("it", CALLS)
    with pytest.raises(InvalidRequest, match="there are 'it'"):
        world.library.runnable("a", "it")
    world.put("calld", ASKS)
    with pytest.raises(InvalidRequest, match="did you mean 'calld'"):
        world.library.runnable("a", "it")
    world.put("called", ASKS, tenant="b")
    with pytest.raises(InvalidRequest, match="did you mean 'calld'"):
        world.library.runnable("a", "it")
    world.put("called", ASKS)
    assert world.library.runnable("a", "it").version == 1


def test_tenants_have_their_own_and_all_have_those_of_the_configuration() -> None:
    world = World()
    fixed = WorkflowConfig.model_validate(ASKS)
    world.library.configure(QuorumSpec(workflows={"fixed": fixed}), world.known())
    world.put("it", {**ASKS, "description": "of a"}, "a")
    world.put("it", {**ASKS, "description": "of b"}, "b")
    world.put("mine", ASKS, "a")
    world.put("fixed", {**ASKS, "description": "shadowed"}, "a")
    assert (world.library.names("a"), world.library.names("b")) == (["fixed", "it", "mine"], ["fixed", "it"])
    assert world.library.find("a", "it").config.description == "of a"
    assert world.library.find("b", "it@1").config.description == "of b"
    assert world.library.find("a", "fixed@1").config is fixed
    for tenant, name, said in [("b", "mine", "known: fixed, it"), ("a", "it@2", "kept: 1"), ("a", "fixed@2", "kept: 1")]:
        with pytest.raises(NotFound, match=said):
            world.library.find(tenant, name)
    assert [one.name for one in world.library.listed("a", "fixed", 1)] == ["it"]
    world.library.change(Changed(True, {}))
    assert (world.library.names("a"), world.library.names("b")) == (["fixed"], ["fixed"])


def test_a_shape_of_another_version_of_the_service_is_told() -> None:
    world = World()
    world.put("it", {"stages": {}})
    world.put("outer", {"steps": {"in": {"workflow": {"name": "it"}}}})
    with pytest.raises(InvalidRequest, match="store it again"):
        world.library.runnable("a", "it")
    with pytest.raises(InvalidRequest, match="'it'"):
        world.library.runnable("a", "outer")


def test_what_is_held_open_is_bounded_in_bytes() -> None:
    opened = Opened(most_bytes=10_000)
    many = [stored(f"w{number}", {**ASKS, "description": f"{number}" + "x" * 1_500}) for number in range(30)]
    first = opened.open(many[0])
    for one in many:
        assert opened.open(one) is not None
        assert opened.open(many[0]) is first  # which is in use
        assert opened.size <= 10_000
    assert opened.open(stored("large", {**ASKS, "returns": "x" * 50_000})) is not None
    assert opened.open(many[0]) == first
    assert opened.size <= 10_000


TAKES_X = {"inputs": {"x": {"type": "string"}}, **ASKS}
TAKES_Y = {"inputs": {"y": {"type": "string"}}, **ASKS}


def calling(name: str, **inputs: str) -> WorkflowConfig:
    return WorkflowConfig.model_validate({"steps": {"in": {"workflow": {"name": name, "inputs": inputs}}}})


def test_a_call_of_a_pinned_version_is_checked_against_that_version() -> None:
    world = World()
    world.put("it", TAKES_X)
    world.put("it", TAKES_Y)
    check = world.library.check
    assert check("a", "outer", calling("it@1", x="1")) == check("a", "outer", calling("it", y="1")) == ()
    for wrong in (calling("it@1", y="1"), calling("it@2", x="1"), calling("it", x="1")):
        assert [fault.path for fault in check("a", "outer", wrong)] == [("steps", "in", "workflow", "inputs")]
    (fault,) = check("a", "outer", calling("it@9", y="1"))
    assert (fault.path, "has no version '9'" in fault.message) == (("steps", "in", "workflow", "name"), True), fault
    world.library.configure(QuorumSpec(workflows={"fixed": WorkflowConfig.model_validate(TAKES_X)}), world.known())
    assert check("a", "outer", calling("fixed@1", x="1")) == ()
    (fault,) = check("a", "outer", calling("fixed@2", x="1"))
    assert "has no version '2'" in fault.message


def test_circles_are_those_of_the_versions_that_are_called() -> None:
    world = World()
    world.put("it", ASKS)
    assert world.library.check("a", "it", calling("it@1")) == ()
    world.put("other", ASKS)
    world.put("it", {"steps": {"in": {"workflow": {"name": "other"}}}})
    assert world.library.check("a", "other", calling("it@1")) == ()
    for again in ("it", "it@2"):
        (fault,) = world.library.check("a", "other", calling(again))
        assert "runs inside of itself" in fault.message
    world.put("it", ASKS)
    world.put("other", {"steps": {"in": {"workflow": {"name": "it"}}}})
    assert world.library.runnable("a", "it@2").version == 2  # which calls another that calls the newest, not itself
    fixed = {"steps": {"in": {"workflow": {"name": "fixed@1"}}}}
    world.library.configure(QuorumSpec(workflows={"fixed": WorkflowConfig.model_validate(fixed)}), world.known())
    with pytest.raises(InvalidRequest, match="runs inside of itself"):
        world.library.runnable("a", "fixed")


def test_a_version_that_is_not_kept_any_more_is_missed_by_those_that_call_it() -> None:
    world = World()
    world.put("it", ASKS)
    world.put("outer", calling("it@1").model_dump(exclude_unset=True))
    assert world.library.runnable("a", "outer").version == 1
    world.library.change(Changed(False, {("a", "it"): (stored("it", ASKS, 2),)}))
    with pytest.raises(InvalidRequest, match="has no version '1'"):
        world.library.runnable("a", "outer")
