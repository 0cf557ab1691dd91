"""The part of `quorum.yaml` about tools: what there is, where it may reach, and who may have it run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from app.config.shape import Name, Scope, Spec
from app.core.tools import DEFAULT_RESULT_BYTES, DEFAULT_TIMEOUT_S, Effect, SideEffect, ToolSource

BuiltinName = Literal["calculator", "clock", "json_query", "http_fetch"]
BUILTINS: tuple[BuiltinName, ...] = ("calculator", "clock", "json_query", "http_fetch")
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}(@[0-9]+(\.[0-9]+){0,2})?$")]
"""A tool's name, with its version where that is not 1.0.0. What vendors take as a function's name."""
ServerName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,31}$")]
"""No underscores: the names of a server's tools begin with it and two of them."""
DEFAULT_BUNDLE_S = 120.0
"""Models take their time, and a bundle asks them in turns."""
MOST_REPLICATES = 64
Patterns = tuple[Annotated[str, Field(min_length=1, max_length=128)], ...]
"""Texts to compare with, where `*` stands for any characters."""


class ToolTerms(Spec):
    """Under what terms a tool runs."""

    timeout_s: float = Field(default=DEFAULT_TIMEOUT_S, gt=0, le=600, description="The longest that a call may take.")
    cost_usd: float = Field(default=0.0, ge=0, le=1_000, description="What a call costs.")
    scopes: tuple[Scope, ...] = Field(default=(), description="What a key must be allowed besides.")
    deprecated: str | None = Field(default=None, min_length=1, max_length=500, description="What to use in its place.")
    max_result_bytes: int = Field(
        default=DEFAULT_RESULT_BYTES, ge=256, le=2_000_000, description="Of a longer result only the beginning is given."
    )
    max_calls: int | None = Field(
        default=None, ge=1, le=1_000, description="How often it may be called in one run; without it as often as is asked."
    )


class HttpToolConfig(ToolTerms):
    """A tool that is an HTTP request; `{name}` in its parts stands for an argument, `{place.city}` for a member of one."""

    description: str = Field(min_length=1, max_length=4_000, description="For the model: what it does, and when to use it.")
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: str = Field(min_length=1, max_length=4_000, description="Its host is fixed, and listed under `hosts`.")
    query: dict[str, str] = Field(default_factory=dict, description="Members whose argument is missing are left out.")
    headers: dict[str, str] = Field(default_factory=dict, description="Credentials best as ${NAME}.")
    body: Any = Field(default=None, description="Sent as JSON. A text that is one placeholder becomes the argument itself.")
    input: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}, description="The JSON schema of the arguments."
    )
    output: dict[str, Any] | None = Field(default=None, description="The JSON schema of the result.")
    result: str | None = Field(
        default=None, description="What of the answer is the result, in CEL over status, headers and body; without it the body."
    )
    side_effect: SideEffect | None = Field(default=None, description="Without it `read` for GET and HEAD, else `write`.")


class McpToolConfig(Spec):
    """What is different for one tool of an MCP server; members left out are the server's."""

    side_effect: SideEffect | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=600)
    cost_usd: float | None = Field(default=None, ge=0, le=1_000)
    scopes: tuple[Scope, ...] | None = None
    deprecated: str | None = Field(default=None, min_length=1, max_length=500)
    max_result_bytes: int | None = Field(default=None, ge=256, le=2_000_000)
    max_calls: int | None = Field(default=None, ge=1, le=1_000)
    description: str | None = Field(default=None, min_length=1, max_length=4_000)


class McpServerConfig(ToolTerms):
    """An MCP server: a program that is started here, or a URL. Its tools are named `server__tool`."""

    command: tuple[str, ...] = Field(
        default=(), max_length=64, description="The program and its arguments; it speaks over stdio."
    )
    env: dict[str, str] = Field(default_factory=dict, description="For the program, beside PATH, HOME and the like.")
    cwd: str | None = Field(default=None, description="Where the program runs.")
    url: str | None = Field(default=None, description="Of a server that speaks streamable HTTP.")
    headers: dict[str, str] = Field(default_factory=dict, description="Sent with every request to it.")
    version: str = Field(default="1.0.0", pattern=r"^\d+(\.\d+){0,2}$", description="Of all its tools.")
    side_effect: SideEffect = Field(default="write", description="Of its tools; what a server says of itself is not believed.")
    only: tuple[str, ...] | None = Field(
        default=None, description="Its tools that are served, by its own names; without it all."
    )
    tools: dict[str, McpToolConfig] = Field(default_factory=dict, description="By the server's own names.")
    connect_s: float = Field(default=10.0, gt=0, le=120, description="Until it has said which tools it has.")


class BundleBudget(Spec):
    """The most that a bundle, or one replicate of it, may use; what is left out is not bounded."""

    tokens: int | None = Field(default=None, ge=1, le=1_000_000_000)
    cost_usd: float | None = Field(default=None, gt=0, le=10_000)
    seconds: float | None = Field(default=None, gt=0, le=600)


class BundleToolConfig(ToolTerms):
    """A tool that puts a question to an orchestration several times, and tells how far the answers agree."""

    model_config = ConfigDict(serialize_by_alias=True)

    timeout_s: float = Field(default=DEFAULT_BUNDLE_S, gt=0, le=600, description="The longest that a call may take.")
    description: str = Field(min_length=1, max_length=3_000, description="For the model: what it does, and when to use it.")
    recipe: Name | None = Field(default=None, description="What is asked; or `strategy`, with what a recipe has.")
    strategy: str | None = None
    models: tuple[str, ...] = ()
    lead_model: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    k: int = Field(default=3, ge=1, le=MOST_REPLICATES, description="How often it is asked.")
    seeds: tuple[int, ...] = Field(default=(), max_length=MOST_REPLICATES, description="Of the replicates, in turn.")
    temperatures: tuple[Annotated[float, Field(ge=0, le=2)], ...] = Field(
        default=(), max_length=MOST_REPLICATES, description="Of the replicates, in turn; without them the recipe's."
    )
    epsilon: float | None = Field(
        default=None, gt=0, lt=1, description="No more are asked once the summary is stable within it; without it all are."
    )
    json_schema: dict[str, Any] | None = Field(
        default=None, alias="schema", description="The JSON schema of an answer. One that does not fit has failed."
    )
    input: dict[str, Any] = Field(
        default_factory=lambda: {
            "type": "object",
            "properties": {
                "question": {"type": "string", "description": "What is asked, with all that is needed to answer it."}
            },
            "required": ["question"],
            "additionalProperties": False,
        },
        description="The JSON schema of the arguments; without it one text, `question`.",
    )
    prompt: str = Field(
        default="{question}", min_length=1, max_length=20_000, description="What is asked; `{name}` stands for an argument."
    )
    budget: BundleBudget = Field(default=BundleBudget(), description="Of all replicates together.")
    replicate_budget: BundleBudget = Field(default=BundleBudget(), description="Of each.")


class PermissionRule(Spec):
    """Who may have which tools run. Members left out fit everything; all that are there must fit."""

    effect: Effect
    name: Name | None = Field(default=None, description="What it is called in decisions; without it its place, as `rule 1`.")
    tenants: Patterns | None = None
    scopes: tuple[Scope, ...] | None = Field(default=None, description="Fits a key that has any of them.")
    recipes: Patterns | None = Field(default=None, description="Fits calls of these recipes, and none over HTTP.")
    tools: Patterns | None = Field(default=None, description="Names, also as `name@1`.")
    side_effects: tuple[SideEffect, ...] | None = None
    sources: tuple[ToolSource, ...] | None = None
    when: str | None = Field(default=None, description="A condition in CEL, over the arguments among others.")
    reason: str | None = Field(default=None, min_length=1, max_length=500, description="Told to who is refused.")


class FamilyTuning(Spec):
    """How tools are described to the models of one family."""

    strict: bool = Field(
        default=False,
        description="Have the provider hold arguments to the schema, where that requires all its members and takes no others.",
    )
    descriptions: dict[ToolName, Annotated[str, Field(min_length=1, max_length=4_000)]] = Field(
        default_factory=dict, description="In place of the tool's own, by its name."
    )


class ApprovalsConfig(Spec):
    """Calls of tools that a person must agree to, and that their runs wait for."""

    expire_s: int = Field(
        default=86_400, ge=1, le=2_592_000, description="What nobody has decided by then is not done, and the model is told."
    )
    keep_s: int = Field(default=2_592_000, ge=60, le=31_536_000, description="Decided ones are listed for so long.")
    by_asker: bool = Field(default=True, description="Whether the key whose run asks may decide, if it has the scope `review`.")


class ToolsConfig(Spec):
    """The tools of the service. Those of clients are none of it."""

    builtins: tuple[BuiltinName, ...] = BUILTINS
    hosts: Patterns = Field(
        default=(), description="Where HTTP tools may reach: `api.example.com`, `*.example.com`, `host:8080`."
    )
    private_hosts: Patterns = Field(default=(), description="Those of `hosts` that may be in our own network.")
    http: dict[ToolName, HttpToolConfig] = Field(default_factory=dict)
    python: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")], ...] = Field(
        default=(), description="Functions with the decorator `tool`, as `package.module:function`."
    )
    mcp: dict[ServerName, McpServerConfig] = Field(default_factory=dict)
    bundles: dict[ToolName, BundleToolConfig] = Field(default_factory=dict, description="Orchestrations as tools.")
    permissions: tuple[PermissionRule, ...] = Field(
        default=(),
        description="What no rule allows is denied, but for pure built-in tools. Of those that fit the strictest holds.",
    )
    families: dict[str, FamilyTuning] = Field(
        default_factory=dict, description="By family, as GET /v1/models gives it: `gpt`, `claude`, `gemini`."
    )
    max_arguments_bytes: int = Field(default=100_000, ge=256, le=10_000_000)
