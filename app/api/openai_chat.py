"""Runs in OpenAI's dialect: the result as a chat completion, the events as its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.api.errors import openai_error
from app.core.chat import Choice
from app.core.errors import ErrorReport
from app.core.messages import ToolCallPart
from app.core.run_events import OutputDelta, OutputReset, RunEvent, RunFailed, RunFinished, RunPaused
from app.core.run_json import json_bytes
from app.core.runs import OrchestrationOutput, Output, cache_word
from app.core.usage import Usage

_DONE = b"data: [DONE]\n\n"


def completion(result: OrchestrationOutput, model: str) -> bytes:
    """The body of a whole answer."""
    output = result.output
    choices = output.choices or (_only_choice(output),)
    return json_bytes(
        {
            "id": f"chatcmpl-{result.id}",
            "object": "chat.completion",
            "created": result.created_at,
            "model": model,
            "choices": [_choice(choice) for choice in choices],
            "usage": usage(result.usage),
            "quorum": summary(result),
        }
    )


def approval_needed(run_id: str, approvals: Sequence[str], reason: str) -> ErrorReport:
    """What a client of this dialect is told where the run waits: it has no word for an answer that comes later. `reason` says
    for what."""
    waits = f"for a person to decide {', '.join(approvals)} (POST /v1/approvals/<id>)" if approvals else f"({reason})"
    message = (
        f"the run {run_id} waits {waits}; then"
        f" its answer is at /v1/orchestrations/{run_id}, or given to this request if it comes again with its Idempotency-Key"
    )
    return ErrorReport("ApprovalNeeded", "approval_needed", message)


def goes_on(run_id: str) -> ErrorReport:
    """The same of a run that another process has taken over: to ask again would be to run it twice."""
    message = f"the run {run_id} goes on in another process; its answer is at /v1/orchestrations/{run_id}"
    return ErrorReport("ConflictError", "conflict", message)


def summary(result: OrchestrationOutput) -> dict[str, Any]:
    """The `quorum` member: what OpenAI's dialect has no word for."""
    consensus = result.consensus
    return {
        "run_id": result.id,
        "strategy": result.strategy,
        "status": result.status,
        "source_model": result.output.source_model,
        "confidence": consensus.confidence if consensus else None,
        "agreement": consensus.agreement if consensus else None,
        "cost_usd": result.cost_usd,
        "candidates": len(result.candidates),
        "path": result.path,
        "cache": cache_word((*result.candidates, *result.calls)),
        "warnings": result.warnings,
        "conversation_id": result.conversation_id,
    }


def usage(total: Usage) -> dict[str, Any]:
    """Tokens in OpenAI's words, over every call of the run."""
    return {
        "prompt_tokens": total.input_tokens,
        "completion_tokens": total.output_tokens,
        "total_tokens": total.total_tokens,
        "prompt_tokens_details": {"cached_tokens": total.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": total.reasoning_tokens},
    }


def _only_choice(output: Output) -> Choice:
    return Choice(
        0, output.text, output.reasoning, output.refusal, output.tool_calls, output.finish_reason or "stop",
        logprobs=output.logprobs,
    )  # fmt: skip


def _choice(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice.text if choice.text or not (choice.tool_calls or choice.refusal) else None,
        "refusal": choice.refusal or None,
    }
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in choice.tool_calls]
    return {
        "index": choice.index,
        "message": message,
        "logprobs": choice.logprobs,
        "finish_reason": choice.finish_reason,
    }


def _tool_call(call: ToolCallPart) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
    if call.signature:
        body["signature"] = call.signature
    return body


class ChunkEncoder:
    """Encodes the events of one run as `chat.completion.chunk`s, `[DONE]` or an error last."""

    dialect = "openai"

    def __init__(self, run_id: str, model: str, created: int, *, include_usage: bool) -> None:
        head = json_bytes({"id": f"chatcmpl-{run_id}", "object": "chat.completion.chunk", "created": created, "model": model})
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._include_usage = include_usage
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._text_head = self._head + b'{"index":0,"delta":{"content":'
        self._text_tail = b'},"logprobs":null,"finish_reason":null}' + self._tail
        self._run_id = run_id
        self._begun: set[int] = set()
        self._tool_calls: set[tuple[int, int]] = set()
        self.broken = False

    def commits(self, event: RunEvent) -> bool:
        return isinstance(event, (OutputDelta, RunFinished))

    def failure(self, event: RunEvent) -> ErrorReport | None:
        if isinstance(event, RunPaused):
            return approval_needed(self._run_id, event.approvals, event.reason)
        return event.error if isinstance(event, RunFailed) else None

    def encode(self, event: RunEvent) -> bytes:
        if isinstance(event, OutputDelta):
            if event.kind == "text" and event.choice == 0 and event.logprobs is None and 0 in self._begun:
                return self._text_head + json_bytes(event.text) + self._text_tail if not self.broken else b""
            return self._delta(event)
        if self.broken:
            return b""
        match event:
            case RunFinished():
                return self._finish(event)
            case RunFailed():
                return self._fail(event.error)
            case RunPaused():
                return self._fail(approval_needed(self._run_id, event.approvals, event.reason))
            case OutputReset(aside=True):
                return self._delta(OutputDelta(0, "text", "\n\n")) if 0 in self._begun else b""
            case OutputReset():
                if self._begun:
                    message = f"the answer had to start over after some of it was sent ({event.reason}); ask again"
                    return self._fail(ErrorReport("OutputReset", "orchestration_failed", message))
                return b""
            case _:
                return b""

    def interrupt(self, error: ErrorReport) -> bytes:
        return b"" if self.broken else self._fail(error)

    def _delta(self, event: OutputDelta) -> bytes:
        if self.broken:
            return b""
        delta: dict[str, Any] = {}
        if event.choice not in self._begun:
            self._begun.add(event.choice)
            delta = {"role": "assistant", "content": "" if event.kind == "text" else None}
        match event.kind:
            case "text":
                delta["content"] = event.text
            case "reasoning":
                delta["reasoning_content"] = event.text
            case "refusal":
                delta["refusal"] = event.text
            case "tool_call":
                delta["tool_calls"] = [self._tool_piece(event)]
        return self._chunk({"index": event.choice, "delta": delta, "logprobs": event.logprobs, "finish_reason": None})

    def _tool_piece(self, event: OutputDelta) -> dict[str, Any]:
        head = event.tool_call
        index = head.index if head else 0
        piece: dict[str, Any] = {"index": index, "function": {"arguments": event.text}}
        if head and (event.choice, index) not in self._tool_calls:
            self._tool_calls.add((event.choice, index))
            piece = {
                "index": index,
                "id": head.id,
                "type": "function",
                "function": {"name": head.name, "arguments": event.text},
            }
        if head and head.signature:
            piece["signature"] = head.signature
        return piece

    def _chunk(self, *choices: dict[str, Any]) -> bytes:
        return self._head + b",".join(json_bytes(choice) for choice in choices) + self._tail

    def _finish(self, event: RunFinished) -> bytes:
        """Each choice's finish reason, the usage where it was asked for, and `[DONE]`."""
        frames: list[bytes] = []
        for ending in event.endings:
            delta: dict[str, Any] = {} if ending.choice in self._begun else {"role": "assistant", "content": ""}
            choice = {"index": ending.choice, "delta": delta, "logprobs": None, "finish_reason": ending.finish_reason}
            frames.append(self._chunk(choice))
        if event.result is not None:
            extra = b'"quorum":' + json_bytes(summary(event.result))
            if self._include_usage:
                extra = b'"usage":' + json_bytes(usage(event.result.usage)) + b"," + extra
                frames.append(self._head + b"]," + extra + b"}\n\n")
            else:
                frames[-1] = frames[-1][: -len(b"}\n\n")] + b"," + extra + b"}\n\n"
        frames.append(_DONE)
        return b"".join(frames)

    def _fail(self, error: ErrorReport) -> bytes:
        self.broken = True
        return b'data: {"error":' + json_bytes(openai_error(error)) + b"}\n\n"
