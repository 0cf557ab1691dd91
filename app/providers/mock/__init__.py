"""Mock models: deterministic personas that need no key, in this process (`MockProvider`) or over HTTP (`server`).

`personas` is the table of who there is, `faults` how they fail on demand, `answering` what they say.
"""

from app.providers.mock.options import MockOptions, cast_of
from app.providers.mock.personas import DEFAULT_PERSONAS, Persona, Style, mock_profiles
from app.providers.mock.provider import MockProvider, mock_provider

__all__ = ["DEFAULT_PERSONAS", "MockOptions", "MockProvider", "Persona", "Style", "cast_of", "mock_profiles", "mock_provider"]
