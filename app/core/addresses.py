"""Which internet addresses are public: what callers name may lead there, and not into our own network."""

from __future__ import annotations

import ipaddress

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291, and IANA's registry of the IPv6 address space
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052


def is_public(address: str) -> bool:
    """Whether `address` (IPv4 or IPv6, a zone allowed) is public, also where it carries an IPv4 address in it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        within = _embedded(parsed)
        if within is None:
            return parsed in _GLOBAL_UNICAST and parsed.is_global and parsed.teredo is None
        parsed = within
    return parsed.is_global and not parsed.is_multicast


def is_address(host: str) -> bool:
    """Whether `host` is an address and no name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that `address` leads to: mapped, by 6to4, or by NAT64."""
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour
