"""`quorum ask`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from app.cli.asking.displays import Display
    from app.cli.asking.question import Question
    from app.core.run_events import RunEvent

DEFAULT_URL: Final = "http://127.0.0.1:8000"
FAILED: Final = 1
NOT_UNDERSTOOD: Final = 2
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""


def ask(
    context: typer.Context,
    question: Annotated[
        str | None, typer.Argument(help="What to ask; `-`, or nothing while something is piped in, reads standard input.")
    ] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", "-s", help="As GET /v1/strategies names them.")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", "-r", help="A named orchestration of the configuration.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A model to ask. Repeat it for several.")] = None,
    lead: Annotated[str | None, typer.Option(help="The model that makes one answer of the others'.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the strategy; the value is JSON or text."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="Instructions that go before the question.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="For every model.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The most that a model may write.")] = None,
    conversation: Annotated[
        str | None,
        typer.Option(help="A conversation that the service keeps, to go on with or to begin; `new` names one for you."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(envvar="QUORUM_URL", help=f"The service; without it {DEFAULT_URL} if one is there.", show_default=False),
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="QUORUM_API_KEY", help="An API key of the service.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Run it in this process, without a service.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The configuration to run it with in this process.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print the answer alone, and progress on stderr. So it is without a terminal.")
    ] = False,
) -> None:
    """Ask several models, watch them answer, and get one answer.

    Exit codes: 0 answered, 1 the run failed, 2 the question was not understood, 130 interrupted.
    """
    from app.cli.asking.question import Question, parse_options
    from app.core.errors import InvalidRequest

    local = local or config is not None
    if local and context.get_parameter_source("url").name == "COMMANDLINE":  # pyright: ignore[reportOptionalMemberAccess]
        raise typer.BadParameter("a service is asked or none: leave out --url, or --local and --config", param_hint="--url")
    try:
        options = parse_options(option or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--option") from None
    if local and conversation is not None:
        raise typer.BadParameter("a service keeps conversations: leave out --local and --config", param_hint="--conversation")
    asked = Question(
        _text(question), system, strategy, recipe, tuple(model or ()), lead, options, temperature, max_tokens, conversation
    )
    display = _display(json=json, plain=plain)
    try:
        answered = asyncio.run(_shown(asked, display, url=url, key=key, local=local, config=config))
    except InvalidRequest as error:
        _tell(f"quorum: {error.message}")
        raise typer.Exit(NOT_UNDERSTOOD) from None
    except KeyboardInterrupt:
        _tell("quorum: interrupted, and the run cancelled")
        raise typer.Exit(INTERRUPTED) from None
    if not answered:
        raise typer.Exit(FAILED)


def _text(question: str | None) -> str:
    """What is asked.

    Raises:
        BadParameter: there is nothing, or nothing that is text.
    """
    if question is None and sys.stdin.isatty():
        raise typer.BadParameter("ask something, as in: quorum ask 'Why is the sky blue?'", param_hint="QUESTION")
    try:
        text = sys.stdin.buffer.read().decode() if question in (None, "-") else question or ""
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"standard input is not UTF-8: {error}", param_hint="QUESTION") from None
    if not text.strip():
        raise typer.BadParameter("the question is empty", param_hint="QUESTION")
    return text


def _display(*, json: bool, plain: bool) -> Display:
    from rich.console import Console

    from app.cli.asking.displays import Json, Plain, Screen

    if json:
        return Json(sys.stdout, sys.stderr)
    console = Console(highlight=False)
    if plain or not console.is_terminal or console.is_dumb_terminal:
        return Plain(sys.stdout, sys.stderr)
    return Screen(console)


async def _shown(
    asked: Question, display: Display, *, url: str | None, key: str | None, local: bool, config: Path | None
) -> bool:
    """Ask, and show what happens. Whether there was an answer."""
    from app.core.run_events import RunFinished

    source = await _source(asked, display, url=url, key=key, local=local, config=config)
    end: RunEvent | None = None
    async with aclosing(source) as events:
        with display:
            async for end in events:
                display.show(end)
    if not isinstance(end, RunFinished) or end.status == "cancelled":
        return False
    if asked.conversation_id == "new" and end.result is not None:
        _tell(f"conversation: {end.result.conversation_id}")
    return True


async def _source(
    asked: Question, display: Display, *, url: str | None, key: str | None, local: bool, config: Path | None
) -> AsyncGenerator[RunEvent]:
    """The run's events, from the service or from this process; which of them, is said on stderr."""
    from app.cli.asking import service
    from app.core.errors import InvalidRequest

    if not local and (url or await service.reachable(DEFAULT_URL)):
        _tell(f"asking the service at {url or DEFAULT_URL}")
        return service.events(asked, url=url or DEFAULT_URL, key=key)

    if asked.conversation_id is not None:
        raise InvalidRequest(f"a service keeps conversations, and none is at {DEFAULT_URL}; name yours with --url")
    from app.assembly.configuration import all_strategies
    from app.cli.asking import here

    strategies = all_strategies()
    loaded = here.configuration(config, strategies)
    why = "" if local else f": no service is at {DEFAULT_URL}"
    _tell(f"running in this process{why}")
    for line in (*loaded.notes, *(f"warning: {warning}" for warning in loaded.warnings)):
        _tell(line)
    return here.events(asked, loaded, strategies, deltas=display.deltas)


def _tell(line: str) -> None:
    from app.cli.asking.escaping import escaped

    typer.echo(escaped(line), err=True)
