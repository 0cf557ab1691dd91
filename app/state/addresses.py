"""Where the state is, by URL: one server, one that Sentinel names, or a Cluster.

| URL | |
|---|---|
| `redis://[user:password@]host:6379/0`, `rediss://...` (TLS), `unix:///path` | one server |
| `redis+sentinel://[user:password@]host:26379,host:26379/service/0` | the primary of `service`, as the sentinels know it |
| `redis+cluster://[user:password@]host:6379,host:6379` | a Cluster, of which some nodes are named |

`rediss+sentinel` and `rediss+cluster` speak TLS. The query may hold `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` and
`ssl_cert_reqs`, and for Sentinel `sentinel_username` and `sentinel_password`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from app.core.errors import ConfigError

Shape = Literal["single", "sentinel", "cluster"]
SCHEMES: Final[Mapping[str, Shape]] = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_PORTS: Final[Mapping[Shape, int]] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"})
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})


@dataclass(frozen=True, slots=True)
class Address:
    """A URL of the state, taken apart. `service` is Sentinel's name for the primary."""

    url: str = field(repr=False)
    scheme: str
    shape: Shape
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str = ""
    db: int = 0
    options: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    @property
    def tls(self) -> bool:
        return self.scheme.startswith("rediss")


def address(url: str) -> Address:
    """`url`, taken apart.

    Raises:
        ConfigError: it is none of the known ones; the message says which are.
    """
    parts = urlsplit(url)
    shape = SCHEMES.get(parts.scheme)
    if shape is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(f"the Redis URL begins with {parts.scheme!r}: use one of {known}")
    if shape == "single":
        return Address(url, parts.scheme, shape, ())
    user, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user.partition(":")
    path = [step for step in parts.path.split("/") if step]
    if shape == "sentinel" and not path:
        raise ConfigError(f"a Sentinel URL names the service: {parts.scheme}://host:26379,host:26379/mymaster")
    if shape == "cluster" and path not in ([], ["0"]):
        raise ConfigError("a Cluster has one database, 0: leave the path of its URL out")
    service, db = (path[0], path[1:]) if shape == "sentinel" else ("", [])
    if len(db) > 1 or (db and not db[0].isdecimal()):
        raise ConfigError(f"{'/'.join(db)!r} in the Redis URL is no database: use a whole number, as /mymaster/0")
    options = dict(parse_qsl(parts.query))
    unknown = options.keys() - _TLS_OPTIONS - (_SENTINEL_OPTIONS if shape == "sentinel" else set[str]())
    if unknown:
        raise ConfigError(f"the Redis URL has the unknown option {min(unknown)!r}")
    return Address(
        url,
        parts.scheme,
        shape,
        tuple(_host(one, _PORTS[shape]) for one in hosts.split(",")),
        unquote(username) or None,
        unquote(password) or None,
        service,
        int(db[0]) if db else 0,
        options,
    )


def _host(text: str, port: int) -> tuple[str, int]:
    name, _, number = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", str(port))
    if not name or not number.isdecimal() or not 0 < int(number) < 65536:
        raise ConfigError(f"{text!r} in the Redis URL is no address: use host:port, with commas between")
    return name.strip("[]"), int(number)
