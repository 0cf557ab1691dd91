"""From our requests to Gemini's ("Gemini API: generateContent")."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from typing import Any, cast

import orjson

from app.core.chat import ChatRequest, Generation, JsonObject, NamedTool, ReasoningEffort, ResponseFormat, ToolDefinition
from app.core.messages import (
    DocumentPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

Json = dict[str, Any]

SKIP_SIGNATURE = "skip_thought_signature_validator"
"""Stands for the signature of a call that another model made ("Gemini API: Thought signatures", FAQ)."""

_VERSION = re.compile(r"gemini-(\d+)")

_LEVELS: dict[ReasoningEffort, str] = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH"}
"""Thinking levels since Gemini 3 ("Gemini thinking"). It cannot be turned off there: the lesser efforts get the least."""

_BUDGETS: dict[ReasoningEffort, int] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
}
"""Thinking tokens of Gemini 2.5, as in Google's own table ("Gemini API: OpenAI compatibility")."""

_LEAST_PRO_BUDGET = 128  # Gemini 2.5 Pro cannot stop thinking ("Gemini thinking": budgets)


def encode_request(request: ChatRequest) -> Json:
    """The request body. `extra` is laid over it; objects in it are merged member by member."""
    body: Json = {}
    instruction = [{"text": message.text} for message in request.messages if message.role == "system"]
    contents = _contents(request.messages, signed=_is_since_3(request.model))
    if contents and instruction:
        body["systemInstruction"] = {"parts": instruction}
    body["contents"] = contents or [{"role": "user", "parts": instruction}]
    if config := _generation_config(request.generation, request.model):
        body["generationConfig"] = config
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]
        if calling := _calling(request):
            body["toolConfig"] = {"functionCallingConfig": calling}
    return _merged(body, request.extra) if request.extra else body


def _is_since_3(model: str) -> bool:
    """Whether `model` is a Gemini 3 or later; an alias without a number (`gemini-flash-latest`) is."""
    found = _VERSION.search(model)
    return int(found.group(1)) >= 3 if found else "gemini" in model


def _contents(messages: tuple[Message, ...], *, signed: bool) -> list[Json]:
    """The turns, user and model in alternation: neighbours of one role are one turn, as are all results of parallel calls."""
    contents: list[Json] = []
    names: dict[str, str] = {}
    for message in messages:
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                names[part.id] = part.name
        parts = list(_model_parts(message.parts) if role == "model" else _user_parts(message.parts, names))
        if not parts:
            continue
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"].extend(parts)
        else:
            contents.append({"role": role, "parts": parts})
    if signed:
        for content in contents:
            _sign_first_call(content["parts"])
    return contents


def _sign_first_call(parts: list[Json]) -> None:
    """Since Gemini 3 the first call of a turn must carry a signature, or the request is refused."""
    first = next((part for part in parts if "functionCall" in part), None)
    if first is not None:
        first.setdefault("thoughtSignature", SKIP_SIGNATURE)


def _user_parts(parts: tuple[Part, ...], names: dict[str, str]) -> Iterator[Json]:
    for part in parts:
        match part:
            case TextPart():
                yield {"text": part.text}
            case ImagePart():
                yield _image(part)
            case DocumentPart():
                yield _media(part.url, part.data, part.media_type)
            case ToolResultPart():
                name = part.name or names.get(part.call_id) or part.call_id
                yield {"functionResponse": {"id": part.call_id, "name": name, "response": _result(part)}}
                yield from (_image(image) for image in part.content if isinstance(image, ImagePart))
            case _:
                pass  # calls and reasoning are a model's


def _model_parts(parts: tuple[Part, ...]) -> Iterator[Json]:
    """A model's own turn. The signature of a text comes as a reasoning part before it and goes back onto the text.

    Thought summaries are not sent: they are for people, the signature holds what the model needs of them.
    """
    signature: str | None = None
    for part in parts:
        match part:
            case ReasoningPart(signature=str() as sealed):
                if signature:
                    yield {"text": "", "thoughtSignature": signature}
                signature = sealed
            case TextPart() if part.text:
                yield {"text": part.text, "thoughtSignature": signature} if signature else {"text": part.text}
                signature = None
            case ToolCallPart():
                if signature:
                    yield {"text": "", "thoughtSignature": signature}
                    signature = None
                yield _call(part)
            case _:
                pass  # images and documents are a user's
    if signature:
        yield {"text": "", "thoughtSignature": signature}


def _call(part: ToolCallPart) -> Json:
    call: Json = {"functionCall": {"id": part.id, "name": part.name, "args": _arguments(part.arguments)}}
    if part.signature:
        call["thoughtSignature"] = part.signature
    return call


def _arguments(text: str) -> Json:
    """The arguments as the object that Gemini wants; what is none, as some models write, is wrapped into one."""
    if not text.strip():
        return {}
    found = _object(text)
    return {"arguments": text} if found is None else found


def _object(text: str) -> Json | None:
    try:
        value = orjson.loads(text)
    except ValueError:
        return None
    return cast("Json", value) if isinstance(value, dict) else None


def _result(part: ToolResultPart) -> Json:
    """`FunctionResponse.response`: an object, with the members `output` or `error` where the tool gave no object."""
    text = part.text
    if part.is_error:
        return {"error": text}
    found = _object(text) if text.lstrip().startswith("{") else None
    return {"output": text} if found is None else found


def _image(part: ImagePart) -> Json:
    return _media(part.url, part.data, part.media_type or _guess(part.url) or "image/jpeg")


def _guess(url: str | None) -> str | None:
    return mimetypes.guess_type(url.partition("?")[0])[0] if url else None


def _media(url: str | None, data: str | None, media_type: str) -> Json:
    """Bytes go inline. A URL is Google's to fetch: an uploaded file, a bucket's, or public https ("File input methods")."""
    if url and url.startswith("data:"):
        head, _, data = url.partition(",")
        media_type = head.removeprefix("data:").partition(";")[0] or media_type
    elif url:
        return {"fileData": {"fileUri": url, "mimeType": media_type}}
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _generation_config(generation: Generation, model: str) -> Json:
    config: Json = {
        "temperature": generation.temperature,
        "topP": generation.top_p,
        "maxOutputTokens": generation.max_tokens,
        "stopSequences": generation.stop or None,
        "seed": generation.seed,
        "candidateCount": generation.n if generation.n > 1 else None,
        "presencePenalty": generation.presence_penalty,
        "frequencyPenalty": generation.frequency_penalty,
        "responseLogprobs": generation.logprobs or None,
        "logprobs": generation.top_logprobs if generation.logprobs else None,
    }
    if generation.response_format:
        config |= _format(generation.response_format)
    if generation.reasoning_effort:
        config["thinkingConfig"] = _thinking(generation.reasoning_effort, model)
    return {name: value for name, value in config.items() if value is not None}


def _format(response_format: ResponseFormat) -> Json:
    """JSON Schema goes as it is: `responseJsonSchema` takes it and ignores keywords it does not know ("Structured outputs")."""
    match response_format.type:
        case "text":
            return {}
        case "json_object":
            return {"responseMimeType": "application/json"}
        case "json_schema":
            return {"responseMimeType": "application/json", "responseJsonSchema": response_format.schema}


def _thinking(effort: ReasoningEffort, model: str) -> Json:
    thoughts = {"includeThoughts": True} if effort != "none" else {}
    if _is_since_3(model):
        least = "MINIMAL" if "flash" in model else "LOW"
        return {"thinkingLevel": _LEVELS.get(effort, least), **thoughts}
    budget = _BUDGETS[effort]
    return {"thinkingBudget": max(budget, _LEAST_PRO_BUDGET) if "-pro" in model else budget, **thoughts}


def _declaration(tool: ToolDefinition) -> Json:
    """`parametersJsonSchema` takes JSON Schema, where `parameters` takes a part of OpenAPI's ("Function calling")."""
    declaration: Json = {"name": tool.name, "parametersJsonSchema": tool.parameters}
    if tool.description:
        declaration["description"] = tool.description
    return declaration


def _calling(request: ChatRequest) -> Json | None:
    """`FunctionCallingConfig`; None for `auto`, which is what Gemini does unasked."""
    match request.tool_choice:
        case "auto":
            return None
        case "none":
            return {"mode": "NONE"}
        case "required":
            return {"mode": "ANY"}
        case NamedTool(name):
            return {"mode": "ANY", "allowedFunctionNames": [name]}


def _merged(under: Json, over: JsonObject) -> Json:
    """`over` laid over `under`, so that `{"generationConfig": {"topK": 5}}` adds a setting and drops none."""
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(below, dict) and isinstance(value, dict):
            value = _merged(cast("Json", below), cast("Json", value))
        merged[name] = value
    return merged
