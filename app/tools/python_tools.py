"""Tools that are python functions: the schema comes from the signature, the descriptions from the docstring.

@tool(side_effect="read")
async def stock(sku: str, warehouse: str = "main") -> int:
    \"\"\"How many pieces of an article are in stock.

    Parameters:
        sku: the article's number.
    \"\"\"
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final, cast, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from app.core.errors import ConfigError, ToolExecutionError
from app.core.tools import (
    DEFAULT_RESULT_BYTES,
    DEFAULT_TIMEOUT_S,
    FIRST,
    SideEffect,
    ToolCaller,
    ToolSource,
    ToolSpec,
    Version,
    parse_version,
)
from app.tools.failures import MOST_SAID, BadArguments, PublicError, broke, failed, refused
from app.tools.results import jsonable

Function = Callable[..., Any]

MAX_THREADS: Final = 32
"""Functions that are not async run in threads of their own, so many at once; one that hangs keeps its thread."""
_CALLER: Final = "caller"
_MARK: Final = "__quorum_tool__"
_SECTION = re.compile(r"^\s*(?:Args|Arguments|Parameters)\s*:\s*$")
_ENTRY = re.compile(r"^\s+(?P<names>\*{0,2}\w+(?:\s*,\s*\w+)*)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.+)$")

_threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="tool")


class PythonTool:
    """A function as a tool.

    Raises:
        ConfigError: its signature is none that a schema can be made of.
    """

    unavailable = None

    def __init__(self, function: Function, spec: ToolSpec, arguments: type[BaseModel], *, wants_caller: bool) -> None:
        self.spec = spec
        self._function = function
        self._arguments = arguments
        self._wants_caller = wants_caller
        self._is_async = inspect.iscoroutinefunction(function)

    async def run(self, arguments: dict[str, Any], caller: ToolCaller) -> Any:
        try:
            checked = self._arguments.model_validate(arguments)
        except ValidationError as error:  # what the schema cannot say, such as a validator of a model
            raise refused(self.spec.name, error.errors(include_url=False)[0]["msg"]) from None
        named = {name: getattr(checked, name) for name in self._arguments.model_fields}
        if self._wants_caller:
            named[_CALLER] = caller
        given = await self._given(named)
        try:
            return jsonable(given)
        except ValueError as error:
            raise failed(self.spec.name, str(error)) from None

    async def _given(self, named: dict[str, Any]) -> Any:
        try:
            if self._is_async:
                return await self._function(**named)
            return await asyncio.get_running_loop().run_in_executor(_threads, lambda: self._function(**named))
        except ToolExecutionError:
            raise
        except BadArguments as error:
            raise refused(self.spec.name, str(error)) from error
        except PublicError as error:
            raise failed(self.spec.name, str(error)[:MOST_SAID]) from error
        except Exception as error:  # the boundary: the function is somebody else's
            raise broke(self.spec.name, error) from error


@overload
def tool(function: Function, /) -> Function: ...
@overload
def tool(
    *,
    name: str | None = ...,
    version: str = ...,
    side_effect: SideEffect = ...,
    timeout_s: float = ...,
    cost_usd: float = ...,
    scopes: tuple[str, ...] = ...,
    deprecated: str | None = ...,
    max_result_bytes: int = ...,
    max_calls: int | None = ...,
) -> Callable[[Function], Function]: ...
def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "1.0.0",
    side_effect: SideEffect = "write",
    timeout_s: float = DEFAULT_TIMEOUT_S,
    cost_usd: float = 0.0,
    scopes: tuple[str, ...] = (),
    deprecated: str | None = None,
    max_result_bytes: int = DEFAULT_RESULT_BYTES,
    max_calls: int | None = None,
) -> Any:
    """Makes a function a tool; it stays callable as it is. `python: [module:function]` in the configuration serves it.

    A parameter `caller` is given the `ToolCaller`, and is none of the schema. Without `side_effect` the worst is assumed.

    Raises:
        ConfigError: no schema can be made of its signature, or its version is none.
    """

    def marked(target: Function) -> Function:
        made = tool_of(
            target,
            name=name,
            version=version,
            side_effect=side_effect,
            timeout_s=timeout_s,
            cost_usd=cost_usd,
            scopes=scopes,
            deprecated=deprecated,
            max_result_bytes=max_result_bytes,
            max_calls=max_calls,
        )
        setattr(target, _MARK, made)
        return target

    return marked if function is None else marked(function)


def tool_of(
    function: Function,
    *,
    name: str | None = None,
    version: str = "1.0.0",
    source: ToolSource = "python",
    side_effect: SideEffect = "write",
    timeout_s: float = DEFAULT_TIMEOUT_S,
    cost_usd: float = 0.0,
    scopes: tuple[str, ...] = (),
    deprecated: str | None = None,
    max_result_bytes: int = DEFAULT_RESULT_BYTES,
    max_calls: int | None = None,
) -> PythonTool:
    """As the decorator `tool`, giving the tool itself."""
    named = name or function.__name__
    about, described = _documentation(function)
    if not about:
        raise ConfigError(f"tool {named!r}: the function has no docstring, which is what a model is told of it")
    numbers = parse_version(version)
    if numbers is None:
        raise ConfigError(f"tool {named!r}: {version!r} is no version; write it like 1.0.0")
    arguments, wants_caller = _arguments(function, named, described)
    spec = ToolSpec(
        name=named,
        description=about,
        input_schema=_tidy(arguments.model_json_schema()),
        version=Version(*numbers) if numbers else FIRST,
        output_schema=_returned(function),
        side_effect=side_effect,
        source=source,
        timeout_s=timeout_s,
        cost_usd=cost_usd,
        scopes=frozenset(scopes),
        deprecated=deprecated,
        max_result_bytes=max_result_bytes,
        max_calls=max_calls,
    )
    return PythonTool(function, spec, arguments, wants_caller=wants_caller)


def load(path: str) -> PythonTool:
    """The tool at `package.module:function`, which carries the decorator.

    Raises:
        ConfigError: there is no such module or function, it breaks when imported, or it is no tool.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the boundary: the module is somebody else's
        raise ConfigError(f"the module {module_name!r} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, attribute, None)
    if function is None:
        raise ConfigError(f"there is no {attribute!r} in {module_name!r}")
    made = getattr(function, _MARK, None)
    if not isinstance(made, PythonTool):
        raise ConfigError(f"{path!r} is no tool: put the decorator `@tool` of app.tools.python_tools on it")
    return made


def _arguments(function: Function, name: str, described: dict[str, str]) -> tuple[type[BaseModel], bool]:
    fields: dict[str, Any] = {}
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigError(f"tool {name!r}: its annotations name what there is not: {error}") from None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == _CALLER:
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"tool {name!r}: {parameter.name!r} cannot be given by name; a schema needs plain parameters")
        if parameter.name not in hints:
            raise ConfigError(f"tool {name!r}: the parameter {parameter.name!r} has no annotation")
        default = ... if parameter.default is parameter.empty else parameter.default
        kind: Any = hints[parameter.name]
        if parameter.name in described:
            kind = Annotated[kind, Field(description=described[parameter.name])]
        fields[parameter.name] = (kind, default)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
        model.model_json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
        raise ConfigError(f"tool {name!r}: no schema can be made of its signature: {str(error).splitlines()[0]}") from None
    return model, _CALLER in inspect.signature(function).parameters


def _returned(function: Function) -> dict[str, Any] | None:
    kind: Any = get_type_hints(function, include_extras=True).get("return", Any)
    if kind is Any or kind is type(None):
        return None
    try:
        return _tidy(TypeAdapter(kind).json_schema(mode="serialization"))
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the titles, which repeat the names and cost a model's tokens."""
    return cast("dict[str, Any]", _untitled(schema, names=False))


def _untitled(node: Any, *, names: bool) -> Any:
    """`names`: the members of `node` are names of the caller's, which may well be `title`."""
    if isinstance(node, dict):
        members = cast("dict[str, Any]", node)
        return {
            name: _untitled(value, names=not names and name in ("properties", "$defs"))
            for name, value in members.items()
            if names or name != "title"
        }
    if isinstance(node, list):
        return [_untitled(item, names=False) for item in cast("list[Any]", node)]
    return node


def _documentation(function: Function) -> tuple[str, dict[str, str]]:
    """What the docstring says of the function, and of each parameter."""
    text = inspect.getdoc(function) or ""
    lines = text.splitlines()
    start = next((index for index, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    described: dict[str, str] = {}
    last: list[str] = []
    for line in lines[start + 1 :]:
        if line and not line[0].isspace():
            break
        found = _ENTRY.match(line)
        if found:
            last = [name.strip(" *") for name in found["names"].split(",")]
            described |= dict.fromkeys(last, found["text"].strip())
        elif line.strip() and last:
            described |= {name: f"{described[name]} {line.strip()}" for name in last}
    return "\n".join(lines[:start]).strip(), described
