"""Whose request it is, told only by peers that we trust."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

UNIX_PEER = "unix:"

CACHED = 4096
"""Addresses whose parsing is remembered: reading one costs more than the rest of a lookup."""

_WITH_PORT = re.compile(r"(?:([0-9.]+)|\[([^\[\]]*:[^\[\]]*)\]):([1-9][0-9]{0,4})")
"""An address and a port, as some proxies write it: without brackets an IPv6 address might be meant as it stands."""
_MOST_PORT = 65535

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ProxyTrust:
    """The trusted proxies, ready for lookups.

    Args:
        trusted: addresses, networks, and "unix:" for peers on a Unix socket.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._unix = UNIX_PEER in trusted
        self._trusts = lru_cache(maxsize=CACHED)(self._is_in_networks)
        self._networks: list[_Network] = [_network(t) for t in trusted if t != UNIX_PEER]

    def trusts(self, address: str) -> bool:
        """Whether ``address`` (as the socket tells it; empty for a Unix socket) may speak for others."""
        if not address:
            return self._unix
        return self._trusts(address)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The client's address: the first entry of X-Forwarded-For, from the right, that is not a trusted proxy,
        without the port that it may have.

        Entries further left were written by the client itself and prove nothing. An entry that is not an address ends
        the walk. Over a Unix socket without the header the answer is empty.
        """
        address = peer
        for entry in reversed(forwarded_for.split(",")) if forwarded_for else ():
            if not self.trusts(address):
                break
            parsed = folded(_without_port(entry.strip()))
            if parsed is None:
                break
            address = str(parsed)
        parsed = folded(address) if address else None
        return str(parsed) if parsed else ""

    def _is_in_networks(self, address: str) -> bool:
        parsed = folded(address)
        return parsed is not None and any(parsed in network for network in self._networks)


@lru_cache(maxsize=CACHED)
def counted(address: str) -> str:
    """The key under which limits count a client: an IPv6 client has a whole /64 to itself, an empty one none."""
    parsed = folded(address)
    if not isinstance(parsed, ipaddress.IPv6Address):
        return address if parsed is None else str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _without_port(entry: str) -> str:
    """An entry of X-Forwarded-For as it is, or the address alone where it is an address and a decimal port."""
    found = _WITH_PORT.fullmatch(entry)
    if found is None or int(found[3]) > _MOST_PORT:
        return entry
    return found[1] or found[2]


def _network(text: str) -> _Network:
    network = ipaddress.ip_network(text, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.ip_network((mapped, network.prefixlen - 96))


@lru_cache(maxsize=CACHED)
def folded(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The parsed address, an IPv4-mapped IPv6 address as IPv4; None when it is not an address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
