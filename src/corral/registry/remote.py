"""What a registry says about a model, and whether it would run here, without fetching its weights.

Manifest, config and the GGUF's header are read; of the weights only as much of the beginning as the header takes.
Called by `show --remote` (`read_remote`) and by pull, before it fetches gigabytes (`read_verdict`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from corral.aio import run_settled
from corral.errors import CorralError, InvalidGGUF, InvalidRequest, RegistryError
from corral.gguf import GGUFHeader, format_parameter_size, read_header
from corral.names import ModelName
from corral.registry.client import RegistryClient, Repository, Unreachable
from corral.store.manifests import LICENSE, MODEL, PARAMS, PROJECTOR, PROMPT, SYSTEM, TEMPLATE, Layer, Manifest
from corral.store.modelconfig import ModelConfig
from corral.store.verdict import Verdict, judge

_FIRST_BYTES = 2**20
_MAX_HEADER_BYTES = 64 * 2**20
_MAX_CONFIG_BYTES = 2**20
_TEXTS = {TEMPLATE: "template", PROMPT: "template", SYSTEM: "system", PARAMS: "params", LICENSE: "license"}
_MAX_TEXT_BYTES = 2**20


OnHeader = Callable[[GGUFHeader], None]  # sees the header of the weights, while its arrays can be read


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model as its registry describes it; sizes in bytes; empty or 0 where the registry does not say."""

    name: ModelName
    digest: str  # bare hex, of the manifest
    size_bytes: int
    layers: tuple[Layer, ...]
    config: ModelConfig
    architecture: str
    parameter_count: int
    parameter_size: str
    quantization_level: str
    context_length: int
    embedding_length: int
    texts: dict[str, str]  # template, system, params, license: those the model has
    header_bytes: int  # fetched of the weights
    verdict: Verdict


async def read_remote(
    client: RegistryClient,
    sources: Sequence[Repository],
    name: ModelName,
    *,
    engine_is_ours: bool = True,
    on_header: OnHeader | None = None,
) -> RemoteModel:
    """Describe a model; the first source that can wins. engine_is_ours: see `judge`.

    on_header is called on the executor. Raises RegistryError, InvalidGGUF.
    """
    problem: CorralError | None = None
    for source in sources:
        try:
            return await _read(client, source, name, engine_is_ours=engine_is_ours, on_header=on_header)
        except (RegistryError, InvalidRequest) as error:
            problem = error
    status = problem.status if isinstance(problem, RegistryError) else 0
    raise RegistryError(f"pull model manifest: {problem}", status) from problem


async def read_verdict(
    client: RegistryClient, source: Repository, manifest: Manifest, *, engine_is_ours: bool = True
) -> Verdict:
    """Whether a model would run here. Raises RegistryError, InvalidGGUF."""
    config = await _config(client, source, manifest)
    return (await _weigh(client, source, manifest, config, engine_is_ours=engine_is_ours))[0]


async def _weigh(
    client: RegistryClient,
    source: Repository,
    manifest: Manifest,
    config: ModelConfig,
    *,
    engine_is_ours: bool,
    on_header: OnHeader | None = None,
) -> tuple[Verdict, GGUFHeader | None, int]:
    """The verdict, the header that it follows from, and how many bytes of the weights were fetched for it."""
    weights, has_projector = manifest.of_type(MODEL), bool(manifest.of_type(PROJECTOR))
    if not weights:
        return judge(None, config, has_projector=has_projector), None, 0
    async with _header(client, source, weights[-1]) as (header, fetched):
        verdict = await run_settled(judge, header, config, has_projector=has_projector, engine_is_ours=engine_is_ours)
        if on_header is not None:
            await run_settled(on_header, header)
    return verdict, header, fetched


async def _config(client: RegistryClient, source: Repository, manifest: Manifest) -> ModelConfig:
    if manifest.config is None:
        return ModelConfig()
    return ModelConfig.parse(await _small_blob(client, source, manifest.config, _MAX_CONFIG_BYTES))


async def _read(
    client: RegistryClient,
    source: Repository,
    name: ModelName,
    *,
    engine_is_ours: bool,
    on_header: OnHeader | None,
) -> RemoteModel:
    manifest = Manifest.parse(await client.manifest(source, name.tag))
    config = await _config(client, source, manifest)
    texts = {
        _TEXTS[layer.media_type]: (await _small_blob(client, source, layer, _MAX_TEXT_BYTES)).decode("utf-8", "replace")
        for layer in manifest.of_type(*_TEXTS)
        if layer.size <= _MAX_TEXT_BYTES
    }
    verdict, header, fetched = await _weigh(
        client, source, manifest, config, engine_is_ours=engine_is_ours, on_header=on_header
    )
    return RemoteModel(
        name=name,
        digest=manifest.digest_hex,
        size_bytes=manifest.size_bytes,
        layers=manifest.all_layers,
        config=config,
        architecture=header.architecture if header else config.model_family,
        parameter_count=header.parameter_count if header else 0,
        parameter_size=format_parameter_size(header.parameter_count) if header else config.model_type,
        quantization_level=header.file_type if header else config.file_type,
        context_length=header.context_length if header else 0,
        embedding_length=header.embedding_length if header else 0,
        texts=texts,
        header_bytes=fetched,
        verdict=verdict,
    )


async def _small_blob(client: RegistryClient, source: Repository, layer: Layer, limit_bytes: int) -> bytes:
    url = source.url("blobs", str(layer.digest))
    return await client.read(source, url, limit_bytes, f"blob {layer.digest.short}")


@asynccontextmanager
async def _header(client: RegistryClient, source: Repository, layer: Layer) -> AsyncIterator[tuple[GGUFHeader, int]]:
    """Read ever more of the file's beginning until the header fits in it. Its arrays can be read inside the block."""
    folder = Path(await run_settled(tempfile.mkdtemp, prefix="corral-header-"))
    try:
        path = folder / "header.gguf"
        have, want = 0, min(_FIRST_BYTES, layer.size)
        while True:
            data = await _range(client, source, layer, have, want)
            await run_settled(_extend, path, data, have, layer.size)
            have += len(data)
            header = await run_settled(_complete_header, path, have, is_last=have >= min(layer.size, _MAX_HEADER_BYTES))
            if header is not None:
                break
            want = min(4 * have, layer.size, _MAX_HEADER_BYTES)
        yield header, have
    finally:
        await run_settled(shutil.rmtree, folder, ignore_errors=True)


def _extend(path: Path, data: bytes, offset: int, size: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, size)  # sparse: the header's checks compare with the whole file's size
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def _complete_header(path: Path, have: int, *, is_last: bool) -> GGUFHeader | None:
    """The header when it lies within the first `have` bytes; None when more is needed. Raises InvalidGGUF."""
    try:
        header = read_header(path)
    except InvalidGGUF:
        if is_last:
            raise
        return None
    # Past `have` there are only zeros, which may look like a header of sorts.
    data_start = min((tensor.offset for tensor in header.tensors), default=have)
    if data_start <= have:
        return header
    if is_last:
        raise InvalidGGUF(f"the header is longer than {have} bytes")
    return None


async def _range(client: RegistryClient, source: Repository, layer: Layer, start: int, end: int) -> bytes:
    headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    data = bytearray()
    async with client.open(source, "GET", source.url("blobs", str(layer.digest)), headers=headers) as response:
        skip = start if response.status == 200 else 0  # a server without ranges: read past, then hang up
        try:
            async for chunk in response.content.iter_chunked(2**16):
                data += chunk[skip:]
                skip = max(0, skip - len(chunk))
                if len(data) >= end - start:
                    break
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(f"reading the header of {layer.digest.short}: {error}") from error
    if len(data) < end - start:
        raise RegistryError(
            f"blob {layer.digest} ended after {start + len(data)} bytes, the manifest says {layer.size}"
        )
    return bytes(data[: end - start])
