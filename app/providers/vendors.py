"""The vendors behind the OpenAI dialect as rows of data, and the environment variables that name a vendor's key.

What differs between vendors stands here and nowhere else. Each row names the vendor page that its facts come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from app.config.spec import ProviderKind
from app.core.errors import ConfigError
from app.providers.base import Capabilities

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]

_NO_QUERY: Mapping[str, str] = {}
_CAPABLE = Capabilities(logprobs=True, n=True)
_TEXT = Capabilities(images=False)


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor of the OpenAI dialect.

    `base_url` is None where each customer has an own one. `key_variables` are the environment variables of the key, the first
    that is set counts. `key_header` carries the key, as a bearer token when it is `authorization`. `stream_usage` says that
    `stream_options.include_usage` is understood, `done_marker` that each whole stream ends with `[DONE]`. `reasoning_field`
    is the member in which an earlier turn's reasoning goes back, None where it must not. `models` are registered when the
    service starts without configuration and finds the key.
    """

    name: str
    base_url: str | None
    key_variables: tuple[str, ...] = ()
    key_header: Literal["authorization", "api-key"] = "authorization"
    chat_path: str = "/chat/completions"
    models_path: str = "/models"
    embeddings_path: str = "/embeddings"
    query: Mapping[str, str] = field(default_factory=lambda: _NO_QUERY)
    max_tokens_field: MaxTokensField = "max_tokens"
    seed_field: str = "seed"
    stream_usage: bool = True
    done_marker: bool = True
    reasoning_field: str | None = None
    capabilities: Capabilities = Capabilities()
    models: tuple[str, ...] = ()


OPENAI = Vendor(
    # platform.openai.com: API reference, Chat Completions (max_tokens is deprecated in favour of max_completion_tokens)
    name="openai",
    base_url="https://api.openai.com/v1",
    key_variables=("OPENAI_API_KEY",),
    max_tokens_field="max_completion_tokens",
    capabilities=replace(_CAPABLE, documents=True, reasoning=True),
    models=("gpt-6.1-sol", "gpt-6-luna"),
)

UNKNOWN = Vendor(name="openai_compatible", base_url=None)
"""Any other server with this dialect: what nearly all of them do."""

_ROWS = (
    OPENAI,
    Vendor(
        # learn.microsoft.com: Azure OpenAI REST API reference (2024-10-21 is the last dated GA version)
        name="azure",
        base_url=None,
        key_variables=("AZURE_OPENAI_API_KEY",),
        key_header="api-key",
        chat_path="/openai/deployments/{model}/chat/completions",
        embeddings_path="/openai/deployments/{model}/embeddings",
        models_path="/openai/models",
        query={"api-version": "2024-10-21"},
        max_tokens_field="max_completion_tokens",
        capabilities=replace(_CAPABLE, reasoning=True),
    ),
    Vendor(
        # learn.microsoft.com: Azure OpenAI API version lifecycle, the v1 API (no deployment in the path, no api-version)
        name="azure_v1",
        base_url=None,
        key_variables=("AZURE_OPENAI_API_KEY",),
        key_header="api-key",
        chat_path="/openai/v1/chat/completions",
        embeddings_path="/openai/v1/embeddings",
        models_path="/openai/v1/models",
        max_tokens_field="max_completion_tokens",
        capabilities=replace(_CAPABLE, reasoning=True),
    ),
    Vendor(
        # console.groq.com: OpenAI Compatibility (logprobs and n are refused), API reference
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_variables=("GROQ_API_KEY",),
        max_tokens_field="max_completion_tokens",
        capabilities=replace(_TEXT, reasoning=True),
        models=("openai/gpt-oss-120b", "qwen/qwen3.8-27b"),
    ),
    Vendor(
        # docs.mistral.ai: Chat Completion API (random_seed; usage comes unasked in the last chunk)
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        key_variables=("MISTRAL_API_KEY",),
        seed_field="random_seed",
        stream_usage=False,
        capabilities=Capabilities(n=True, reasoning=True),
        models=("mistral-large-4", "mistral-small-latest"),
    ),
    Vendor(
        # api-docs.deepseek.com: Create Chat Completion; Thinking Mode (reasoning goes back with tool calls, else 400)
        name="deepseek",
        base_url="https://api.deepseek.com/v1",
        key_variables=("DEEPSEEK_API_KEY",),
        reasoning_field="reasoning_content",
        capabilities=Capabilities(images=False, json_schema=False, seed=False, reasoning=True, logprobs=True),
        models=("deepseek-v4-pro", "deepseek-flash"),
    ),
    Vendor(
        # docs.x.ai: API reference, Chat Completions
        name="xai",
        base_url="https://api.x.ai/v1",
        key_variables=("XAI_API_KEY",),
        max_tokens_field="max_completion_tokens",
        capabilities=replace(_CAPABLE, reasoning=True),
        models=("grok-4.7",),
    ),
    Vendor(
        # docs.together.ai: OpenAI Compatibility
        name="together",
        base_url="https://api.together.xyz/v1",
        key_variables=("TOGETHER_API_KEY",),
        capabilities=Capabilities(n=True),
        models=("moonshotai/Kimi-K3.1-Pro", "zai-org/GLM-5.3-Flash"),
    ),
    Vendor(
        # openrouter.ai: API reference; Preserving Reasoning (`reasoning` as text); /models alone needs no key
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        models_path="/models/user",
        reasoning_field="reasoning",
        capabilities=Capabilities(documents=True, reasoning=True, logprobs=True),
        models=("openai/gpt-6-luna", "anthropic/claude-sonnet-5.5", "google/gemini-3.8-flash"),
    ),
    Vendor(
        # docs.fireworks.ai: OpenAI compatibility
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_variables=("FIREWORKS_API_KEY",),
        capabilities=replace(_CAPABLE, reasoning=True),
        models=("accounts/fireworks/models/kimi-k3", "accounts/fireworks/models/glm-5p3-flash"),
    ),
    Vendor(
        # docs.perplexity.ai: Chat Completions (no tools, usage in each chunk; [DONE] is not promised)
        name="perplexity",
        base_url="https://api.perplexity.ai",
        key_variables=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        stream_usage=False,
        done_marker=False,
        capabilities=Capabilities(tools=False, parallel_tools=False, json_object=False, seed=False, stop=False),
        models=("sonar-pro",),
    ),
    Vendor(
        # inference-docs.cerebras.ai: Chat Completions
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        key_variables=("CEREBRAS_API_KEY",),
        max_tokens_field="max_completion_tokens",
        capabilities=replace(_TEXT, reasoning=True, logprobs=True),
        models=("gpt-oss-120b",),
    ),
    Vendor(
        # platform.moonshot.ai: Chat API; Thinking models (reasoning_content goes back)
        name="moonshot",
        base_url="https://api.moonshot.ai/v1",
        key_variables=("MOONSHOT_API_KEY",),
        reasoning_field="reasoning_content",
        capabilities=Capabilities(seed=False, n=True, reasoning=True),
        models=("kimi-k3.1-pro",),
    ),
    Vendor(
        # docs.z.ai: Chat Completion; Thinking Mode (preserved thinking)
        name="zai",
        base_url="https://api.z.ai/api/paas/v4",
        key_variables=("ZAI_API_KEY",),
        reasoning_field="reasoning_content",
        capabilities=Capabilities(images=False, json_schema=False, seed=False, reasoning=True),
        models=("glm-5.3",),
    ),
    Vendor(
        # docs.cohere.com: Compatibility API
        name="cohere",
        base_url="https://api.cohere.ai/compatibility/v1",
        key_variables=("COHERE_API_KEY", "CO_API_KEY"),
        capabilities=_TEXT,
    ),
    Vendor(
        # docs.sambanova.ai: OpenAI compatibility
        name="sambanova",
        base_url="https://api.sambanova.ai/v1",
        key_variables=("SAMBANOVA_API_KEY",),
        capabilities=replace(_TEXT, seed=False),
    ),
    Vendor(
        # deepinfra.com/docs: OpenAI API
        name="deepinfra",
        base_url="https://api.deepinfra.com/v1/openai",
        key_variables=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
        capabilities=Capabilities(n=True),
    ),
    Vendor(
        # docs.api.nvidia.com: NIM for LLMs
        name="nvidia",
        base_url="https://integrate.api.nvidia.com/v1",
        key_variables=("NVIDIA_API_KEY",),
    ),
    Vendor(
        # huggingface.co/docs: Inference Providers
        name="huggingface",
        base_url="https://router.huggingface.co/v1",
        key_variables=("HF_TOKEN",),
    ),
    Vendor(
        # alibabacloud.com: Model Studio, OpenAI compatible
        name="dashscope",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        key_variables=("DASHSCOPE_API_KEY",),
        capabilities=Capabilities(reasoning=True, n=True),
    ),
    # Local servers: no key, and what works depends on the model they serve.
    Vendor(name="ollama", base_url="http://localhost:11434/v1"),  # docs.ollama.com: OpenAI compatibility
    Vendor(name="vllm", base_url="http://localhost:8000/v1", capabilities=_CAPABLE),  # docs.vllm.ai: OpenAI-compatible server
    Vendor(name="lmstudio", base_url="http://localhost:1234/v1"),  # lmstudio.ai/docs: OpenAI compatibility endpoints
    Vendor(name="llamacpp", base_url="http://localhost:8080/v1"),  # ggml-org/llama.cpp: tools/server/README.md
)

VENDORS: Mapping[str, Vendor] = {row.name: row for row in _ROWS}


def vendor_of(kind: ProviderKind, name: str | None) -> Vendor:
    """The row of a provider of `kind` (`openai` or `openai_compatible`) and, for the latter, of vendor `name`.

    Raises:
        ConfigError: nobody knows a vendor of that name.
    """
    if kind == "openai":
        return OPENAI
    if name is None:
        return UNKNOWN
    if (row := VENDORS.get(name)) is None:
        raise ConfigError(
            f"the vendor {name!r} is not known; known are {', '.join(sorted(VENDORS))};"
            " for another leave it out and set base_url"
        )
    return row


@dataclass(frozen=True, slots=True)
class KeyInEnvironment:
    """A provider that is registered without configuration when one of `variables` is set, with `models`."""

    name: str
    kind: ProviderKind
    vendor: str | None
    variables: tuple[str, ...]
    models: tuple[str, ...]


ENVIRONMENT: tuple[KeyInEnvironment, ...] = (
    KeyInEnvironment("openai", "openai", None, OPENAI.key_variables, OPENAI.models),
    KeyInEnvironment("anthropic", "anthropic", None, ("ANTHROPIC_API_KEY",), ("claude-sonnet-5-5", "claude-haiku-5-5")),
    KeyInEnvironment(
        "gemini", "gemini", None, ("GEMINI_API_KEY", "GOOGLE_API_KEY"), ("gemini-3.8-flash", "gemini-3.5-flash-lite")
    ),
    *(
        KeyInEnvironment(row.name, "openai_compatible", row.name, row.key_variables, row.models)
        for row in _ROWS
        if row.models and row is not OPENAI
    ),
)
"""What a start without configuration looks for, in this order. The models are current ones: a strong and a cheap one each."""
