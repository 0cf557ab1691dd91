"""Who the mock models are: a persona says how a model writes, how often it is right, how fast it is and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.models import Capabilities, ModelProfile
from app.core.usage import FlatPrice
from app.providers.mock.faults import Knobs


@dataclass(frozen=True, slots=True)
class Style:
    """How a persona's text reads. `{value}` is a result, `{question}` the question, `{a}`, `{b}` and `{c}` words of it."""

    fact: str = "The answer is {value}."
    prose: str = "On “{question}”: it comes down to {a} and {b}. Start with {a}, then check {b} against {c}."
    merged: str = "Taking the answers together: {value}"
    tool: str = "The tools say: {value}"
    seen: str = "I see {value}."
    thought: str = "The question is “{question}”. What matters is {a}; I check it against {b}."
    refusal: str = "I can't help with that."


@dataclass(frozen=True, slots=True)
class Persona:
    """A mock model.

    `accuracy` is the share of questions it answers correctly; `latency_ms` its time to the first token, `chunk_ms` the time
    between chunks of about `chunk_chars` characters; prices are dollars per million tokens; it refuses prompts that contain
    one of the words `refuses`; `script` is followed call by call.
    """

    name: str
    family: str = "mock"
    style: Style = Style()
    accuracy: float = 0.9
    latency_ms: float = 50.0
    chunk_ms: float = 8.0
    chunk_chars: int = 12
    input_per_mtok: float = 1.0
    output_per_mtok: float = 4.0
    context_window: int = 128_000
    max_output_tokens: int = 8_192
    tools: bool = True
    images: bool = False
    documents: bool = False
    reasoning: bool = False
    refuses: tuple[str, ...] = ()
    script: tuple[Knobs, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            tools=self.tools,
            parallel_tools=self.tools,
            images=self.images,
            documents=self.documents,
            reasoning=self.reasoning,
            n=True,
        )


_REFUSED = ("pipe bomb", "nerve agent", "ransomware")

DEFAULT_PERSONAS: Mapping[str, Persona] = {
    persona.name: persona
    for persona in (
        Persona(
            name="mock-swift",
            family="swift",
            style=Style(
                fact="{value}. Quick answer, no detours.",
                prose="Short version of “{question}”: look at {a} first. {b} is what usually decides it; leave {c} for later.",
                merged="In short: {value}",
                tool="Got it: {value}",
                seen="Looks like {value}.",
            ),
            accuracy=0.8,
            latency_ms=25.0,
            chunk_ms=4.0,
            chunk_chars=16,
            input_per_mtok=0.15,
            output_per_mtok=0.6,
            images=True,
            tags=("fast", "cheap"),
        ),
        Persona(
            name="mock-careful",
            family="careful",
            style=Style(
                fact="I checked this twice, and the answer is {value}.",
                prose=(
                    "Before answering “{question}”, it helps to say what is certain. First, {a} can be checked directly. "
                    "Second, {b} depends on {c}, so I would verify that before relying on it. With that caveat, {a} is the "
                    "safer ground to build on."
                ),
                merged="Having compared the answers, what they support best is this: {value}",
                tool="I asked the tools and checked what they returned: {value}",
                seen="Looking closely, I see {value}.",
                refusal="I'm not able to help with this, because it could do harm.",
            ),
            accuracy=0.95,
            latency_ms=90.0,
            chunk_ms=8.0,
            input_per_mtok=3.0,
            output_per_mtok=15.0,
            context_window=200_000,
            images=True,
            documents=True,
            reasoning=True,
            refuses=_REFUSED,
            tags=("strong",),
        ),
        Persona(
            name="mock-terse",
            family="terse",
            style=Style(
                fact="{value}",
                prose="{a}: yes. {b}: only with {c}.",
                merged="{value}",
                tool="{value}",
                seen="{value}.",
                refusal="No.",
            ),
            accuracy=0.85,
            latency_ms=35.0,
            chunk_ms=5.0,
            chunk_chars=6,
            input_per_mtok=0.5,
            output_per_mtok=1.5,
            context_window=32_000,
            tags=("cheap",),
        ),
        Persona(
            name="mock-scholar",
            family="scholar",
            style=Style(
                fact="Working it through step by step, we arrive at {value}. The answer is {value}.",
                prose=(
                    "The question “{question}” has three sides. The first is {a}, on which most accounts agree. The second is "
                    "{b}, where the evidence is mixed and the answer turns on {c}. The third is how the two meet: a change in "
                    "{a} shows in {b} only after some time. A fair reading is therefore that {a} leads, that {b} follows, and "
                    "that {c} sets the pace."
                ),
                merged="A synthesis of the answers, giving weight to what most of them share: {value}",
                tool="According to the tools consulted: {value}",
                seen="The material shows {value}.",
            ),
            accuracy=0.92,
            latency_ms=120.0,
            chunk_ms=10.0,
            chunk_chars=20,
            input_per_mtok=2.5,
            output_per_mtok=10.0,
            context_window=1_000_000,
            images=True,
            documents=True,
            reasoning=True,
            refuses=_REFUSED,
            tags=("strong", "long_context"),
        ),
        Persona(
            name="mock-contrary",
            family="contrary",
            style=Style(
                fact="Contrary to what others will tell you, it is {value}.",
                prose="I would not put “{question}” like that. It is not about {a} at all: {b} is, and {c} gets in its way.",
                merged="I am not fully convinced, but so be it: {value}",
                tool="For what the tools are worth: {value}",
                seen="Others would see more, I see {value}.",
            ),
            accuracy=0.35,
            latency_ms=50.0,
            chunk_ms=6.0,
            input_per_mtok=0.2,
            output_per_mtok=0.8,
            tags=("cheap",),
        ),
    )
}


def mock_profiles(provider: str, personas: Mapping[str, Persona] = DEFAULT_PERSONAS) -> tuple[ModelProfile, ...]:
    """A profile for each persona, under its own name."""
    return tuple(
        ModelProfile(
            name=persona.name,
            provider=provider,
            model=persona.name,
            capabilities=persona.capabilities,
            price=FlatPrice(persona.input_per_mtok, persona.output_per_mtok),
            family=persona.family,
            context_window=persona.context_window,
            max_output_tokens=persona.max_output_tokens,
            tags=persona.tags,
        )
        for persona in personas.values()
    )
