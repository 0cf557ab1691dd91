from __future__ import annotations

from pathlib import Path

import pytest

from app.config.loading import check_spec
from app.providers.environment import from_environment, load_or_default
from app.providers.vendors import ENVIRONMENT


def test_keys_in_the_environment_make_providers_and_the_notes_say_so() -> None:
    found = from_environment({"OPENAI_API_KEY": "a", "GOOGLE_API_KEY": "b", "GROQ_API_KEY": "", "OTHER": "x"})
    assert {name: config.kind for name, config in found.spec.providers.items()} == {"openai": "openai", "gemini": "gemini"}
    assert {config.provider for config in found.spec.models.values()} == {"openai", "gemini"}
    assert [note.split(":")[0] for note in found.notes] == ["OPENAI_API_KEY is set", "GOOGLE_API_KEY is set"]
    assert all(alias in " ".join(found.notes) for alias in found.spec.models)


def test_without_keys_the_mock_models_answer() -> None:
    found = from_environment({})
    assert list(found.spec.providers) == ["mock"]
    assert len(found.spec.models) >= 3
    assert found.notes[0].startswith("no provider is configured and no key is set (OPENAI_API_KEY, ANTHROPIC_API_KEY, ")


def test_all_keys_at_once_make_a_sound_configuration() -> None:
    found = from_environment({row.variables[0]: "key" for row in ENVIRONMENT})
    check_spec(found.spec)
    assert len(found.spec.providers) == len(ENVIRONMENT)
    assert len(found.spec.models) == sum(len(row.models) for row in ENVIRONMENT)


def test_secrets_are_not_in_the_notes() -> None:
    found = from_environment({"OPENAI_API_KEY": "canary-secret"})
    assert "canary-secret" not in repr(found)


@pytest.mark.parametrize("text", ["limits: {max_models: 5}\n", ""])
def test_a_file_without_providers_gets_them_from_the_environment(tmp_path: Path, text: str) -> None:
    path = tmp_path / "quorum.yaml"
    path.write_text(text)
    loaded = load_or_default(path, {"OPENAI_API_KEY": "a"})
    assert list(loaded.spec.providers) == ["openai"]
    assert loaded.spec.limits.max_models == (5 if text else 32)
    assert loaded.path == path
    assert loaded.notes


def test_a_file_with_providers_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "quorum.yaml"
    path.write_text("providers: {mock: {kind: mock}}\n")
    loaded = load_or_default(path, {"OPENAI_API_KEY": "a"})
    assert list(loaded.spec.providers) == ["mock"]
    assert loaded.notes == ()


def test_no_file_at_all_is_a_start_by_the_environment() -> None:
    assert list(load_or_default(None, {}).spec.providers) == ["mock"]
