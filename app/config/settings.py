"""The settings of the process, from the environment: where it listens, where its state and its configuration are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.config.explaining import close_to, spoken
from app.core.errors import ConfigError

PREFIX = "QUORUM_"
_OF_CLIENTS = frozenset({"QUORUM_URL", "QUORUM_API_KEY"})
"""What `quorum ask` reads."""
DEFAULT_CONFIG = Path("quorum.yaml")
CLIENT_VARIABLES = frozenset({"QUORUM_URL", "QUORUM_API_KEY"})
"""What `quorum ask` reads: which service to ask, and with which key."""
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]


def default_data_dir(environ: Mapping[str, str], *, usable: Callable[[Path], bool] | None = None) -> Path:
    """`$XDG_DATA_HOME/quorum`, else `~/.local/share/quorum`, else a directory of this user under the temporary one.

    The last is for containers whose user has no home that can be written to. Source: XDG Base Directory Specification.
    """
    usable = usable or _usable
    candidates = [Path(environ["XDG_DATA_HOME"])] if environ.get("XDG_DATA_HOME") else []
    if environ.get("HOME"):
        candidates.append(Path(environ["HOME"], ".local", "share"))
    for base in candidates:
        if base.is_absolute() and usable(base):
            return base / "quorum"
    return Path(tempfile.gettempdir(), f"quorum-{os.getuid()}")


def _usable(path: Path) -> bool:
    """Whether `path` can be written to, or made."""
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


class Settings(BaseSettings):
    """Each is an environment variable: `QUORUM_PORT`, `QUORUM_REDIS_URL` and so on. An empty one counts as not set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="The port; 0 takes a free one.")
    workers: int = Field(default=1, ge=1, le=256, description="Processes that serve.")
    config: Path | None = Field(default=None, description="The configuration; without it ./quorum.yaml if it is there.")
    redis_url: SecretStr | None = Field(default=None, description="Redis or Valkey; without it an embedded one is started.")
    data_dir: Path = Field(
        default_factory=lambda: default_data_dir(os.environ),
        description="Where the embedded server keeps its data; without it ~/.local/share/quorum.",
    )
    admin_key: SecretStr | None = Field(default=None, min_length=16, description="A key with every scope, to begin with.")
    secret: SecretStr | None = Field(
        default=None, min_length=16, description="Keys the hashes and the encryption; without it one is kept in data_dir."
    )
    insecure: bool = Field(default=False, description="Serve a public address without any key.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Names beside localhost that a Host header may say while no key exists, with commas between."
    )
    log_level: LogLevel = "info"
    log_format: LogFormat = Field(default="auto", description="auto: console on a terminal, else json.")
    grace_s: float = Field(default=5.0, ge=0, le=600, description="Serving on after SIGTERM, until balancers have noticed.")
    drain_s: float = Field(default=60.0, ge=0, le=3600, description="After that, for the runs under way.")
    keep_alive_s: float = Field(default=15.0, gt=0, le=3600, description="Between the keep-alive comments of a stream.")
    stalled_s: float = Field(default=30.0, gt=0, le=3600, description="Until a client that does not read its stream is cut.")
    body_s: float = Field(default=30.0, gt=0, le=3600, description="Until a request body must have arrived.")

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return tuple(host.strip() for host in value.split(",") if host.strip()) if isinstance(value, str) else value

    def config_path(self) -> Path | None:
        """The configuration to load, or None where there is none and nobody named one."""
        if self.config is not None:
            return self.config
        return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def load_settings(**given: Any) -> Settings:
    """The settings of the environment; what is `given` and not None goes before it.

    Raises:
        ConfigError: a setting is wrong. The faults name the environment variable, never its value.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = tuple(
            f"{_variable(entry['loc'])}: {spoken(entry['type'], entry.get('ctx', {}), entry['msg'])}"
            for entry in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError("the settings of the process are wrong", faults=faults) from None


def _variable(path: tuple[str | int, ...]) -> str:
    return f"{PREFIX}{path[0]}".upper()


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that begins like ours and means nothing, so that a misspelt one is noticed."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | CLIENT_VARIABLES
    strange = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [f"{name} is not a setting{close_to(name, known)}" for name in strange]
