"""`RegistryClient`: one HTTP exchange with a registry, its redirects, tokens and "come back later" included.

| answer              | what happens                                                                       |
|---------------------|------------------------------------------------------------------------------------|
| 401 with a challenge| one token, one more try; the second 401 is `unauthorized: access denied`           |
| 401 that asks Basic | the key that `corral login` keeps for this host, one more try                      |
| 429, 502, 503, 504  | tried again, after Retry-After where given, else with growing delays               |
| redirect            | followed for GET and HEAD, never to somewhere nearer than the registry (reach.py);  |
|                     | the token goes to the registry's scheme, host and port only                        |
| 404                 | RegistryError `file does not exist`                                                |
| other 4xx and 5xx   | RegistryError `<code>: <body>`; the body only where the registry itself answered   |

Used by pull, push, transfer, upload and remote. Proxies come from the environment by the standard library's rules.
Source of the texts: ollama server/images.go makeRequestWithRetry, 2026-08.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import platform
import ssl
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from corral import __version__
from corral.aio import run_settled
from corral.errors import RegistryError
from corral.names import ModelName
from corral.registry.auth import Challenge, read_token, token_request
from corral.registry.logins import Logins
from corral.registry.reach import GuardedResolver, check_redirect
from corral.store.manifests import MAX_MANIFEST_BYTES

if TYPE_CHECKING:
    from corral.registry.keys import Identity

_log = logging.getLogger(__name__)

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_MAX_TOKEN_BYTES = 2**20
_MAX_ERROR_BYTES = 4096
_MAX_REDIRECTS = 10
_READ_BUFFER_BYTES = 2**18  # what is in it when a connection breaks is lost
_REDIRECTS = {301, 302, 303, 307, 308}
_LATER = {429, 502, 503, 504}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

Body = Callable[[], AsyncIterator[bytes]]  # called anew for every try
Sleep = Callable[[float], Awaitable[None]]


class Unreachable(RegistryError):
    """No answer came: no connection, or it broke."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often to try; injected, so that tests need not wait."""

    tries: int = 6
    first_delay_s: float = 0.5
    longest_delay_s: float = 32.0
    longest_retry_after_s: float = 300.0
    connect_s: float = 30.0
    stall_s: float = 30.0
    sleep: Sleep = field(default=asyncio.sleep)

    def delay_s(self, failures: int) -> float:
        """How long to wait after the `failures`-th failure in a row, from 1."""
        return min(self.longest_delay_s, self.first_delay_s * 2.0 ** min(failures - 1, 16))


@dataclass(frozen=True, slots=True)
class Repository:
    """One model's repository at one endpoint: `<base>/v2/<path>/…`."""

    base: URL  # scheme, host, port and perhaps a path prefix, without a slash at its end
    path: str  # namespace/model
    verify_tls: bool = True

    def url(self, *parts: str) -> URL:
        """The URL of something in the repository; parts are put in as they are."""
        return URL(f"{str(self.base).rstrip('/')}/v2/{'/'.join((self.path, *parts))}")

    @property
    def place(self) -> str:
        """The base as logs may show it: without the login that a mirror's URL may hold."""
        return str(self.base.with_user(None))

    def owns(self, url: URL) -> bool:
        """Whether the registry itself is there, not somewhere that it sent us to."""
        return url.origin() == self.base.origin()


def repository_of(name: ModelName, scheme: str = "https", *, verify_tls: bool = True) -> Repository:
    """The repository of a model at the host of its own name."""
    return Repository(URL(f"{scheme}://{name.host}"), name.repository, verify_tls)


class RegistryClient:
    """HTTP to registries over one connection pool; `close` it. Belongs to one event loop."""

    def __init__(
        self,
        identity: Callable[[], Identity],
        policy: RetryPolicy | None = None,
        logins: Logins | None = None,
        *,
        proxied: bool = True,
    ) -> None:
        """`identity` is called, and `logins` read, on the executor, when a registry first asks who we are.

        proxied: through the proxies that the environment names; else through none.
        """
        self.policy = policy or RetryPolicy()
        self._proxied = proxied
        self._identity = identity
        self._logins = logins
        self._proofs: dict[Repository, str] = {}  # Authorization headers
        self._session: aiohttp.ClientSession | None = None
        self._unverified: ssl.SSLContext | None = None

    def admit(self, repository: Repository, token: str) -> None:
        """A token that is known before the registry asks for one."""
        self._proofs[repository] = f"Bearer {token}"

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def open(
        self,
        repository: Repository,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        is_patient: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with a status below 400 (below 300 for GET and HEAD); released when the block is left.

        Raises RegistryError for statuses (see the table above) and Unreachable where no answer came: at once unless
        `is_patient`, else after some more tries where there was a connection.
        """
        tries = self.policy.tries if is_patient else 1
        response = await self._answer(repository, method, url, dict(headers or {}), body, tries)
        try:
            yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def read(
        self, repository: Repository, url: URL, limit_bytes: int, what: str, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """A small document; raises RegistryError when it is over the limit, counted after unpacking."""
        async with self.open(repository, "GET", url, headers=headers) as response:
            try:
                return await _read_bounded(response, limit_bytes, what)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _unreachable("GET", url, error) from error

    async def manifest(self, repository: Repository, tag: str) -> bytes:
        """A tag's manifest, byte for byte."""
        url = repository.url("manifests", tag)
        return await self.read(repository, url, MAX_MANIFEST_BYTES, "manifest", {"Accept": MANIFEST_TYPE})

    async def _answer(
        self,
        repository: Repository,
        method: str,
        url: URL,
        headers: dict[str, str],
        body: bytes | Body | None,
        tries: int,
    ) -> aiohttp.ClientResponse:
        failures, asked = 0, False
        while True:
            try:
                response = await self._send_following(repository, method, url, headers, body)
            except aiohttp.ClientConnectorError as error:
                raise _unreachable(method, url, error) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                failures += 1
                if failures >= tries:
                    raise _unreachable(method, url, error) from error
                await self.policy.sleep(self.policy.delay_s(failures))
                continue
            if response.status < 400:
                return response
            proof = "" if asked else await self._proof(response, repository)
            if proof:
                response.close()
                asked = True
                self._proofs[repository] = proof
                continue
            failures += 1
            delay = self._later(response, failures)
            if delay is None:
                raise await _refused(response, quotable=repository.owns(response.url))
            response.close()
            _log.info("%s answered %d; trying again in %.1f s", response.url.host, response.status, delay)
            await self.policy.sleep(delay)

    async def _proof(self, response: aiohttp.ClientResponse, repository: Repository) -> str:
        """The Authorization header that a 401 asks for; "" when this is none, or nothing is known to answer it."""
        if response.status != 401 or not repository.owns(response.url):
            return ""
        headers = response.headers.getall("WWW-Authenticate", [])
        challenge = next((found for header in headers if (found := Challenge.parse(header))), None)
        if challenge is not None:
            return f"Bearer {await self._token(repository, challenge)}"
        if self._logins is None or not any(header.strip().lower().startswith("basic") for header in headers):
            return ""
        return await run_settled(self._logins.authorization, repository.base)

    def _later(self, response: aiohttp.ClientResponse, failures: int) -> float | None:
        """How long to wait before the next try; None when there is none."""
        if response.status not in _LATER or failures >= self.policy.tries:
            return None
        asked = _retry_after_s(response.headers.get("Retry-After", ""))
        if asked is None:
            return self.policy.delay_s(failures)
        return asked if asked <= self.policy.longest_retry_after_s else None

    async def _send_following(
        self, repository: Repository, method: str, url: URL, headers: dict[str, str], body: bytes | Body | None
    ) -> aiohttp.ClientResponse:
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send(repository, method, url, headers, body)
            location = response.headers.get("Location", "")
            if method not in {"GET", "HEAD"} or response.status not in _REDIRECTS or not location:
                return response
            response.close()
            url = joined(response, location)
        raise RegistryError(f"maximum redirects exceeded ({_MAX_REDIRECTS})")

    async def _send(
        self, repository: Repository, method: str, url: URL, headers: dict[str, str], body: bytes | Body | None
    ) -> aiohttp.ClientResponse:
        headers = dict(headers)
        proof = self._proofs.get(repository)
        if proof and repository.owns(url):
            headers["Authorization"] = proof
        proxy = _proxy_for(url) if self._proxied else None
        await check_redirect(repository.base, url, proxied=proxy is not None)
        return await self._open_session().request(
            method,
            url,
            headers=headers,
            data=body() if callable(body) else body,
            allow_redirects=False,
            proxy=proxy,
            ssl=True if repository.verify_tls else self._unverified_context(),
        )

    async def _token(self, repository: Repository, challenge: Challenge) -> str:
        identity = await run_settled(self._identity)
        failures = 0
        while True:
            request = token_request(challenge, repository.base, identity)
            try:
                # Not followed: a redirect would carry the signature elsewhere.
                response = await self._open_session().get(
                    request.url,
                    headers={"Authorization": request.authorization},
                    allow_redirects=False,
                    proxy=_proxy_for(request.url),
                    ssl=True if repository.verify_tls else self._unverified_context(),
                )
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _unreachable("GET", request.url, error) from error
            async with response:
                if response.status < 300:
                    return read_token(await _read_bounded(response, _MAX_TOKEN_BYTES, "token reply"))
                failures += 1
                delay = self._later(response, failures)
                if delay is None:
                    raise await _refused(response, quotable=True)
            await self.policy.sleep(delay)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            policy = self.policy
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_s, sock_read=policy.stall_s)
            self._session = aiohttp.ClientSession(
                timeout=timeout,
                headers={"User-Agent": user_agent()},
                read_bufsize=_READ_BUFFER_BYTES,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(resolver=GuardedResolver(), use_dns_cache=False),
            )
        return self._session

    def _unverified_context(self) -> ssl.SSLContext:
        if self._unverified is None:
            self._unverified = ssl.create_default_context()
            self._unverified.check_hostname = False
            self._unverified.verify_mode = ssl.CERT_NONE
        return self._unverified


def joined(response: aiohttp.ClientResponse, location: str) -> URL:
    """Where an answer's Location leads; raises RegistryError when that is no http(s) URL."""
    try:
        url = response.url.join(URL(location, encoded=True))
        url.explicit_port  # noqa: B018  read now, since only then a wrong one is found
    except ValueError as error:
        raise RegistryError("redirected to what is no URL", response.status) from error
    if url.scheme not in {"http", "https"}:
        raise RegistryError(f"redirected to {url.scheme}:, which is no http", response.status)
    return url


def user_agent() -> str:
    """Begins like Ollama's, because registries read the version out of it to refuse models that need a newer one."""
    machine = platform.machine().lower()
    where = f"{_ARCHITECTURES.get(machine, machine)} {sys.platform}"
    return f"ollama/{__version__} ({where}) corral/{__version__} Python/{platform.python_version()}"


async def _refused(response: aiohttp.ClientResponse, *, quotable: bool) -> RegistryError:
    status = response.status
    try:
        body = (
            "" if not quotable else (await response.content.read(_MAX_ERROR_BYTES)).decode("utf-8", "replace").strip()
        )
    except (aiohttp.ClientError, TimeoutError):
        body = ""  # the status alone says enough
    finally:
        response.close()
    if status == 401:
        return RegistryError("unauthorized: access denied", status)
    if status == 404:
        return RegistryError("file does not exist", status)
    return RegistryError(f"{status}: {body}" if body else str(status), status)


def _unreachable(method: str, url: URL, error: BaseException) -> Unreachable:
    # Without the query and the login: a signed URL is a secret, and so is a password.
    return Unreachable(f'{method.capitalize()} "{url.with_query(None).with_user(None)}": {_reason(url, error)}')


def _reason(url: URL, error: BaseException) -> str:
    """Why there was no answer; aiohttp's own texts of connection errors show Python objects, and a proxy's login."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answers {error.status}"
    if not isinstance(error, aiohttp.ClientConnectorError):
        return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    if isinstance(error.os_error, ConnectionRefusedError):
        return f"dial tcp {url.host}:{url.port}: connect: connection refused"  # Go's words, which scripts look for
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"{url.host} cannot be reached: name not known"
    return f"{url.host} cannot be reached: {_os_reason(error.os_error)}"


def _os_reason(error: OSError) -> str:
    """Why, without the place in Python's source that errors of TLS end with."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"it does not speak TLS: {(error.reason or 'no reason given').replace('_', ' ').lower()}"
    return error.strerror or str(error) or type(error).__name__


async def _read_bounded(response: aiohttp.ClientResponse, limit_bytes: int, what: str) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        data += chunk
        if len(data) > limit_bytes:
            raise RegistryError(f"{what} is larger than {limit_bytes // 2**20} MiB", response.status)
    return bytes(data)


def _retry_after_s(text: str) -> float | None:
    """Retry-After in seconds, from its number or its date; None when there is none that can be read."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _proxy_for(url: URL) -> str | None:
    """The proxy that the environment names for a URL. aiohttp's own trust_env would add logins from ~/.netrc."""
    if not url.host or urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return urllib.request.getproxies().get(url.scheme)
