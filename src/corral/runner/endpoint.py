"""Where a runner's engine answers: its Unix socket, or a relay on another machine that leads there. For client.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp

from corral.runner.stream import EngineStream


class Endpoint(Protocol):
    """A way to an engine."""

    @property
    def base(self) -> str:
        """What stands before the path of a URL."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that every call needs to get there."""
        ...

    @property
    def gone_status(self) -> int | None:
        """The status by which the way there says that the engine is gone; None when nobody is on the way."""
        ...

    def connector(self) -> aiohttp.BaseConnector:
        """Connections that are closed after one call."""
        ...

    async def stream(self) -> EngineStream:
        """A connection for one call whose answer is read as it comes; raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """The engine's own socket, on this machine."""

    path: Path
    base: str = "http://runner"
    headers: Mapping[str, str] = field(default_factory=dict)
    gone_status: None = None

    def connector(self) -> aiohttp.BaseConnector:
        """One connection a call, to the socket."""
        return aiohttp.UnixConnector(str(self.path), limit=0, force_close=True)

    async def stream(self) -> EngineStream:
        """A connection to the socket."""
        _, stream = await asyncio.get_running_loop().create_unix_connection(EngineStream, str(self.path))
        return stream


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay in front of it, on another machine; it knows the runner by the token."""

    host: str
    port: int
    token: str = field(repr=False)
    gone_status: int = 401  # a token is forgotten with its runner

    @property
    def base(self) -> str:
        """The relay's own address."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def headers(self) -> Mapping[str, str]:
        """The token."""
        return {"Authorization": f"Bearer {self.token}"}

    def connector(self) -> aiohttp.BaseConnector:
        """One connection a call, to the relay; through no proxy."""
        return aiohttp.TCPConnector(limit=0, force_close=True)

    async def stream(self) -> EngineStream:
        """A connection to the relay."""
        _, stream = await asyncio.get_running_loop().create_connection(EngineStream, self.host, self.port)
        return stream
