"""What a tool is: a versioned function with schemas and permissions, whoever runs it; and what one call of it came to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from app.core.chat import JsonObject
from app.core.errors import ErrorReport

if TYPE_CHECKING:
    from app.core.budgets import Reserving
    from app.core.run_events import RunEvent
    from app.core.run_fold import RunFold

SideEffect = Literal["pure", "read", "write"]
"""`pure`: nothing but its arguments counts. `read`: looks at the world. `write`: changes it, so it is never run twice."""

ToolSource = Literal["builtin", "python", "http", "mcp", "orchestration"]
Effect = Literal["allow", "approve", "deny"]
"""What a permission says of a call. `approve`: a person must agree first."""

RULE_VARIABLES: Final = frozenset({"tenant", "scopes", "recipe", "tool", "version", "side_effect", "source", "arguments"})
"""What the condition of a permission may ask of."""
RESULT_VARIABLES: Final = frozenset({"status", "headers", "body"})
"""What the result of an HTTP tool is taken out of."""
DEFAULT_TIMEOUT_S: Final = 30.0
DEFAULT_RESULT_BYTES: Final = 100_000
UNTRIED: Final = frozenset({"tool_unavailable", "forbidden", "invalid_request", "deadline_exceeded"})
"""Codes of calls that failed before their tool was reached."""

_VERSION: Final = re.compile(r"(0|[1-9]\d{0,5})(?:\.(0|[1-9]\d{0,5})(?:\.(0|[1-9]\d{0,5}))?)?")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class Version(NamedTuple):
    """A semantic version without pre-releases: https://semver.org, items 2 and 11."""

    major: int
    minor: int = 0
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


FIRST: Final = Version(1)


class ToolReference(NamedTuple):
    """`name`, `name@1`, `name@1.2` or `name@1.2.0`: the newest version that begins with `version`."""

    name: str
    version: tuple[int, ...] = ()

    def fits(self, name: str, version: Version) -> bool:
        return name == self.name and version[: len(self.version)] == self.version

    def __str__(self) -> str:
        return self.name + ("@" + ".".join(map(str, self.version)) if self.version else "")


def parse_version(text: str) -> tuple[int, ...] | None:
    """The numbers of `1`, `1.2` or `1.2.0`; None where `text` is no version."""
    found = _VERSION.fullmatch(text)
    return tuple(int(part) for part in found.groups() if part is not None) if found else None


def parse_reference(text: str) -> ToolReference | None:
    """What `text` refers to, None where it is no reference to a tool. `name@latest` is `name`."""
    name, at, version = text.partition("@")
    if not _NAME.fullmatch(name):
        return None
    if not at or version == "latest":
        return ToolReference(name)
    numbers = parse_version(version)
    return None if numbers is None else ToolReference(name, numbers)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What is known of a tool before it runs.

    Parameters:
        input_schema: a JSON schema of type object, which arguments must fit.
        output_schema: what results must fit; None where the tool does not say.
        timeout_s: the longest that a call may take, in seconds.
        cost_usd: what a call costs, in dollars.
        scopes: what a key must be allowed besides, to have the tool run.
        deprecated: why it should not be used any more, and what should; None while it may.
        max_result_bytes: of a longer result only the beginning is given.
        max_calls: how often it may be called in one run (of a panel, by each member); None for as often as is asked.
    """

    name: str
    description: str
    input_schema: JsonObject
    version: Version = FIRST
    output_schema: JsonObject | None = None
    side_effect: SideEffect = "read"
    source: ToolSource = "python"
    timeout_s: float = DEFAULT_TIMEOUT_S
    cost_usd: float = 0.0
    scopes: frozenset[str] = frozenset()
    deprecated: str | None = None
    max_result_bytes: int = DEFAULT_RESULT_BYTES
    max_calls: int | None = None

    @property
    def reference(self) -> str:
        """`name@1.2.0`."""
        return f"{self.name}@{self.version}"


class Unheard(Protocol):
    """Work inside of a run that may be cut in the middle, where it cannot tell of it."""

    def unheard(self, fold: RunFold) -> Iterator[RunEvent]:
        """The ends of its calls that `fold` has not heard of, once nothing of it is under way any more."""
        ...


@dataclass(frozen=True, slots=True)
class EnclosingRun:
    """The run whose model calls a tool, for tools that ask models themselves: their calls are part of it.

    They `tell` it what happens, those that have to be booked if it is cut are put `beside` its own, and draw on its `purse`
    where it has one; with `needs_prices` only models of known prices may be asked. `within` names the tools that it is inside
    of itself, the outermost first. `watched` says that somebody sees every event, and `max_concurrent_calls` how many calls
    may be under way at once. `is_step` where it is a workflow, and what asks models a step of it.
    """

    tell: Callable[[RunEvent], None]
    beside: Callable[[Unheard], None]
    purse: Reserving | None = None
    needs_prices: bool = False
    within: tuple[str, ...] = ()
    watched: bool = False
    max_concurrent_calls: int = 16
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class ToolCaller:
    """On whose behalf a tool runs, and what ties its call to a request.

    `address` is the network peer's. `recipe` is the one whose run asks, None for a call over HTTP. `deadline` is on the
    monotonic clock, in seconds. `inside` is the run that asks, for tools that ask models themselves; None over HTTP.
    """

    tenant: str
    scopes: frozenset[str] = frozenset()
    key_id: str = ""
    key_name: str = ""
    address: str | None = None
    recipe: str | None = None
    request_id: str = ""
    run_id: str = ""
    traceparent: str | None = None
    deadline: float | None = None
    inside: EnclosingRun | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Priced:
    """A result that has cost something of its own, in dollars, beside what each call of its tool costs."""

    value: Any
    cost_usd: float


class Tool(Protocol):
    """A function that can be called: built in, of a python module, over HTTP, at an MCP server, or an orchestration."""

    @property
    def spec(self) -> ToolSpec: ...

    @property
    def unavailable(self) -> str | None:
        """Why it cannot be called now, None where it can."""
        ...

    async def run(self, arguments: dict[str, Any], caller: ToolCaller) -> Any:
        """The result for valid `arguments`: JSON values, however deep or large, or such a result `Priced`.

        Raises:
            ToolExecutionError: it failed; with a message for the model.
        """
        ...


@dataclass(frozen=True, slots=True)
class Considered:
    """How a rule stood to a call. `matched` is None where it depends on arguments that are not known yet."""

    rule: str
    effect: Effect
    matched: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class PermissionDecision:
    """What becomes of a call: `effect`, by which `rule` (None: no rule allows it), and why, in a sentence.

    `depends` says that the arguments, which were not given, may change it.
    """

    effect: Effect
    rule: str | None
    reason: str
    depends: bool = False
    considered: tuple[Considered, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call came to.

    `value` is JSON, and `text` the same for a model to read; both are data, bounded and free of what cannot be sent on. Of a
    call that failed, `error` says why and `value` is None. `started_at` is Unix time in seconds.
    """

    tool: str
    version: str
    value: Any = None
    text: str = ""
    error: ErrorReport | None = None
    truncated: bool = False
    started_at: float = 0.0
    latency_ms: float = 0.0
    cost_usd: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def untried(self) -> bool:
        """Whether the tool was never reached: then it has certainly had no effect, and costs nothing."""
        return self.error is not None and self.error.code in UNTRIED
