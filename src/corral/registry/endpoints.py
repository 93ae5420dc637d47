"""`Endpoints`: where a model's repository is reached: the operator's mirrors first, then the host of its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yarl import URL

from corral.core import Notice
from corral.errors import InvalidRequest, RegistryError
from corral.names import DEFAULT_HOST, ModelName
from corral.registry.client import RegistryClient, Repository, Unreachable, repository_of

_TLS_EXPECTED = 400  # what TLS servers answer to plain HTTP on their port


@dataclass(frozen=True, slots=True)
class _Mirror:
    host: str  # of the names it stands in for
    base: URL


class Endpoints:
    """Knows the mirrors (`[<host>=]<URL>`; without a host they mirror the default registry)."""

    def __init__(self, client: RegistryClient, mirrors: Sequence[str] = ()) -> None:
        """Raises InvalidRequest for a mirror that is no http(s) URL."""
        self._client = client
        self._mirrors = tuple(_read_mirror(text) for text in mirrors)

    async def sources(self, name: ModelName, *, insecure: bool = False) -> tuple[Repository, ...]:
        """Where to read a model from, best first. Raises RegistryError `insecure protocol http`."""
        mirrors = [mirror for mirror in self._mirrors if mirror.host == name.host.lower()]
        found = [Repository(mirror.base, name.repository, verify_tls=not insecure) for mirror in mirrors]
        return (*found, await self.origin(name, insecure=insecure))

    async def origin(self, name: ModelName, *, insecure: bool = False) -> Repository:
        """The registry itself, to push to. With `insecure` plain HTTP where it is spoken, else TLS unverified."""
        if not insecure:
            if name.scheme.lower() == "http":
                raise RegistryError("insecure protocol http")
            return repository_of(name)
        plain = repository_of(name, "http", verify_tls=False)
        return plain if await self._speaks_plain_http(plain) else repository_of(name, "https", verify_tls=False)

    async def _speaks_plain_http(self, plain: Repository) -> bool:
        try:
            async with self._client.open(plain, "GET", plain.base / "v2/", is_patient=False) as response:
                return response.url.scheme == "http"
        except Unreachable:
            return False
        except RegistryError as error:
            return error.status != _TLS_EXPECTED


def insecure_notice(repository: Repository) -> Notice | None:
    """What to tell about a transfer that could have been tampered with."""
    where = repository.base.with_user(None).authority  # which clients read: without a mirror's login
    if repository.base.scheme == "http":
        return Notice("insecure_transport", f"{where} was reached over plain HTTP")
    if not repository.verify_tls:
        return Notice("insecure_transport", f"the certificate of {where} was not verified")
    return None


def _read_mirror(text: str) -> _Mirror:
    host, separator, address = text.partition("=")
    if not separator or "/" in host:
        host, address = DEFAULT_HOST, text
    try:
        base = URL(address if "://" in address else f"https://{address}")
    except ValueError:
        base = URL()
    if base.scheme not in {"http", "https"} or not base.host or base.query_string or base.fragment:
        shown = text.rpartition("@")[2]  # without a login
        raise InvalidRequest(f"mirror {shown!r} is no http(s) URL", field="mirrors")
    return _Mirror(host.lower(), base)
