"""pull and push: the registry's progress on the error stream; pull says beforehand what it is about to fetch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corral.cli.api import ServerError
from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.formats import human_bytes
from corral.cli.progress import Progress, follow
from corral.errors import CorralError
from corral.names import ModelName

_OLLAMA_HOSTS = (".ollama.ai", ".ollama.com")  # what is pushed there has a page on ollama.com
# as our server says it, in Ollama's words before the network's
_NO_ANSWER = re.compile(r"(?s)(?:pull model manifest: )?(?:Get \"[^\"]*\": )?(\S+ cannot be reached: .*)")
_SHORT_DIGEST = slice(len("sha256:"), len("sha256:") + 12)


class NotAuthorized(CorralError):
    """The registry refuses a push to this namespace."""

    def __init__(self) -> None:
        super().__init__("you are not authorized to push to this namespace, create the model under a namespace you own")


def pull(context: Context) -> None:
    """`corral pull MODEL`."""
    pull_model(context, context.words[0], insecure=context.parsed.flag("insecure"))


def pull_model(context: Context, name: str, *, insecure: bool) -> None:
    """Pull with progress, told beforehand to a person what will be fetched; `run` does it too. Raises ServerError."""
    body = {"model": name, "name": name, "insecure": insecure}
    if context.console.shows_progress:
        from corral.cli.remote import announce

        line = announce(context.settings, name, insecure=insecure)
        if line:
            context.console.note(line)
    kept: dict[str, int] = {}
    try:
        with Progress(context.console) as progress:
            warnings = follow(
                progress,
                _counted(context.api.stream("/api/pull", body), kept),
                lambda _, digest: f"pulling {digest[_SHORT_DIGEST]}:",
                skip_empty=True,
            )
    except KeyboardInterrupt:
        if sum(kept.values()):
            context.console.note(f"\nkept {human_bytes(sum(kept.values()))}; the same command goes on from there")
        raise
    except ServerError as error:
        raise _unreachable(error, name) or error from None
    print_warnings(context, warnings)


def _counted(events: Iterator[dict[str, Any]], kept: dict[str, int]) -> Iterator[Mapping[str, Any]]:
    """The events as they are; `kept` gets the bytes that are here, by digest."""
    for event in events:
        if event.get("digest"):
            kept[str(event["digest"])] = int(event.get("completed") or 0)
        yield event


def _unreachable(error: ServerError, name: str) -> CorralError | None:
    """The error of a registry that nobody answers for, in the network's words and with what can be had without it."""
    found = _NO_ANSWER.match(error.text)
    if found is None:
        return None
    from corral.cli.nearest import nearest
    from corral.registry.catalog import CATALOG

    close = nearest(name, list(CATALOG)) or list(CATALOG)
    return UsageError(f"{found[1]}\n\nWithout it, from the Python package index: {', '.join(close)}")


def push(context: Context) -> None:
    """`corral push MODEL`; prints where the model can be found."""
    name = context.words[0]
    body = {"model": name, "name": name, "insecure": context.parsed.flag("insecure")}
    try:
        with Progress(context.console) as progress:
            warnings = follow(
                progress,
                context.api.stream("/api/push", body),
                lambda status, digest: status or f"pushing {digest[_SHORT_DIGEST]}...",
            )
    except CorralError as error:
        # The registry's refusal reaches us as text only; Ollama's CLI recognises it the same way.
        if "access denied" in str(error) or "unauthorized" in str(error):
            raise NotAuthorized from None
        raise
    print_warnings(context, warnings)
    context.console.print(f"\nYou can find your model at:\n\n\t{_home_of(name)}")


def print_warnings(context: Context, warnings: Sequence[Mapping[str, Any]]) -> None:
    """What the server had to tell besides its answer, a line each on the error stream."""
    for warning in warnings:
        context.console.note(f"Warning: {warning.get('message', '')}")


def _home_of(text: str) -> str:
    name = ModelName.parse_loose(text)
    if name.host.endswith(_OLLAMA_HOSTS):
        return f"https://ollama.com/{name.short.removesuffix(':latest')}"
    return name.full
