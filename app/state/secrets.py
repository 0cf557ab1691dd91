"""The service's own secret: it keys the hashes of API keys and encrypts stored credentials.

Every use has a key of its own, derived with HKDF (RFC 5869) from the secret and the name of the use.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.core.errors import ConfigError

FILE_NAME: Final = "secret"
SHORTEST: Final = 16
"""Characters."""

_NONCE_BYTES: Final = 12  # what AES-GCM takes (NIST SP 800-38D, 5.2.1.1)
_SEAL_VERSION: Final = "v1."


class Secret:
    """Keyed hashes and encryption for named uses. The secret itself cannot be read back."""

    def __init__(self, value: str) -> None:
        if len(value) < SHORTEST:
            raise ConfigError(
                f"QUORUM_SECRET has {len(value)} characters and needs at least {SHORTEST}: make one with 'openssl rand -hex 32'"
            )
        self._value = value.encode()

    def hasher(self, use: str) -> KeyedHash:
        """HMAC-SHA256 under a key of its own for `use`."""
        return KeyedHash(self._key(f"hash:{use}"))

    def sealer(self, use: str) -> Sealer:
        """AES-256-GCM under a key of its own for `use`."""
        return Sealer(self._key(f"seal:{use}"))

    def key_for(self, use: str) -> bytes:
        """32 bytes, for hashes that are made elsewhere."""
        return self._key(f"key:{use}")

    def _key(self, use: str) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"quorum:{use}".encode()).derive(self._value)


class KeyedHash:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, text: str) -> str:
        """64 hexadecimal digits."""
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()


class Sealer:
    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, text: str, *, owner: str) -> str:
        """`text` encrypted. It opens only under the same `owner`, so that it cannot be moved to another record."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), owner.encode())
        return _SEAL_VERSION + base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, sealed: str, *, owner: str) -> str:
        """The text. Raises `ConfigError` where it was sealed with another secret or for another owner."""
        try:
            raw = base64.urlsafe_b64decode(sealed.removeprefix(_SEAL_VERSION))
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise ConfigError(
                f"what is stored for {owner!r} cannot be decrypted: it was stored with another QUORUM_SECRET, or changed since"
            ) from error


def load_secret(configured: str | None, data_dir: Path) -> Secret:
    """The configured secret, else the one in the data directory, which is made where it is missing.

    The file appears whole or not at all, readable by its owner only, so that processes that start together agree on it.
    Raises `ConfigError` where the secret is too short or the file cannot be read.
    """
    if configured:
        return Secret(configured)
    path = data_dir / FILE_NAME
    try:
        if not path.exists():
            _create(path)
        return Secret(path.read_text().strip())
    except OSError as error:
        raise ConfigError(f"the secret {str(path)!r} cannot be used ({error.strerror}): set QUORUM_SECRET instead") from error


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{FILE_NAME}-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first: its secret counts
    finally:
        draft.unlink()
