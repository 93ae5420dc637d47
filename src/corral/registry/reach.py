"""How near an address is, and how near a registry's redirect may lead. Used by client.py before every request.

A registry chooses where its redirects and upload locations lead. One on the internet must not make this machine ask
services of its own network, whose answers, sizes or mere existence would come back in an error text.

| registry is at      | may send us to                              |
|---------------------|---------------------------------------------|
| a public address    | public addresses                            |
| a private address   | private and public addresses                |
| this machine        | this machine, private and public addresses  |
| a link-local address| any; nobody else may send us there           |

Addresses are checked when a name is looked up and again when the connection is made, so a name cannot be public when
looked at and private when used. Behind a proxy, which looks names up itself, only literal addresses can be checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from contextvars import ContextVar
from enum import IntEnum

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from corral.errors import RegistryError

_LOCAL_NAMES = ("localhost", ".localhost")


class Reach(IntEnum):
    """Where an address is, nearest first; link-local ones, where clouds keep their secrets, before all others."""

    LINK_LOCAL = 0
    THIS_MACHINE = 1
    PRIVATE = 2
    PUBLIC = 3


_nearest: ContextVar[Reach] = ContextVar("nearest", default=Reach.LINK_LOCAL)  # of what may be connected to now


class GuardedResolver(AbstractResolver):
    """Looks names up, and gives no address that is nearer than the request at hand may go."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The name's addresses; raises OSError when one is too near."""
        found = await self._inner.resolve(host, port, family)
        if reach_of(result["host"] for result in found) < _nearest.get():
            raise OSError("the address is private")
        return found

    async def close(self) -> None:
        """Nothing to close."""
        await self._inner.close()


def reach_of(addresses: Iterable[str]) -> Reach:
    """The nearest of some literal addresses; names and unknown forms count as public."""
    return min((_reach_of_one(address) for address in addresses), default=Reach.PUBLIC)


async def check_redirect(base: URL, target: URL, *, proxied: bool) -> None:
    """Raise RegistryError unless the registry at `base` may send us to `target`; lets the connection check again."""
    if target.origin() == base.origin():
        _nearest.set(Reach.LINK_LOCAL)
        return
    if proxied:
        home, there = _literal_reach(base), _literal_reach(target)
    else:
        home, there = await _resolved_reach(base), await _resolved_reach(target)
    if there < home:
        raise RegistryError("the registry redirects to a private address, which is refused")
    _nearest.set(home)


def _reach_of_one(text: str) -> Reach:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return Reach.PUBLIC
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if address.is_link_local:
        return Reach.LINK_LOCAL
    if address.is_loopback or address.is_unspecified:
        return Reach.THIS_MACHINE
    return Reach.PUBLIC if address.is_global and not address.is_multicast else Reach.PRIVATE


def _literal_reach(url: URL) -> Reach:
    host = (url.host or "").rstrip(".").lower()
    return Reach.THIS_MACHINE if host.endswith(_LOCAL_NAMES) else _reach_of_one(host)


async def _resolved_reach(url: URL) -> Reach:
    """By all addresses of the name; one that cannot be looked up fails when it is connected to."""
    literal = _literal_reach(url)
    if literal is not Reach.PUBLIC:
        return literal
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(url.host or "", url.port or 0, type=socket.SOCK_STREAM)
    except OSError:
        return literal
    return reach_of(str(item[4][0]) for item in found)
