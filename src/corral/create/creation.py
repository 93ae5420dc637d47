"""One create call's blocking work: `flow.py` drives it. What each step is, stands there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from corral.core import Notice, TransferStatus
from corral.create.assemble import Assembly, config_with_weights, first_config, parameters_of_architecture
from corral.create.autodetect import detect_template
from corral.create.drafts import LayerDraft, Steps, existing
from corral.create.finish import Finisher
from corral.create.request import CheckedRequest, remote_url
from corral.create.uploads import Uploads
from corral.errors import BlobMissing, BlobNotFound, InvalidRequest, ModelDamaged, ModelNotFound
from corral.names import Digest, ModelName, split_source
from corral.store import manifests as media
from corral.store.layers import encode_params
from corral.store.manifests import Layer, Manifest
from corral.store.modelconfig import ModelConfig
from corral.store.models import ModelStore

_CLOUD = "https://ollama.com:443"
_WITH_HEADER = frozenset([media.MODEL, media.PROJECTOR, media.ADAPTER, media.DRAFT])
_MAX_CONFIG_BYTES = 2**20


class Creation:
    """`prepare` first; then the pull, when `must_pull` says so; then `steps`, once."""

    def __init__(self, store: ModelStore, plan: CheckedRequest) -> None:
        self._store = store
        self._request = plan.request
        self._notices: list[Notice] = list(plan.notices)
        self._uploads = Uploads(store)
        self._finisher = Finisher(store)
        self._written: list[Digest] = []
        self._name = plan.request.name
        self._base: ModelName | None = None
        self._config = ModelConfig()
        self.base_reference = ""
        self.must_pull = False

    def prepare(self) -> None:
        """Check files and names; raises InvalidRequest, InvalidModelName, InvalidGGUF."""
        request = self._request
        if not request.from_:
            self._uploads.check(request.files or {}, "files")
        if request.draft_files:
            self._uploads.check(request.draft_files, "draft_files")
        if request.adapters:
            self._uploads.check(request.adapters, "adapters")
        self._name = self._store.manifests.resolve(request.name)
        if request.from_:
            self._prepare_base()
        else:
            self._config = first_config(request, None)

    def _prepare_base(self) -> None:
        source = split_source(self._request.from_)
        name = ModelName.parse(source.name)
        host = self._request.remote_host or (_CLOUD if source.source == "cloud" else "")
        if host:
            if self._request.draft_files:
                raise InvalidRequest("DRAFT cannot be used with remote models", field="draft_files")
            config = first_config(self._request, None)
            self._config = replace(config, remote_host=remote_url(host), remote_model=source.name)
            return
        self.base_reference = source.name.partition("://")[2] or source.name  # the scheme counts in `corral pull` only
        self._base = self._store.manifests.resolve(name)
        self.must_pull = not self._store.manifests.path(self._base).is_file()

    def steps(self) -> Steps[None]:
        """Make the model. Closing the generator, or an error, removes the blobs that it wrote."""
        base = self._base_manifest()
        old = self._old_manifest()
        request = self._request
        files = [request.files or {}, request.adapters, request.draft_files]
        wanted = {Digest.parse(digest) for group in files for digest in group.values()}
        done = False
        with self._store.blobs.reserve(wanted | (base.digests if base else set())):
            try:
                yield from self._make(base)
                done = True
            finally:
                if not done:
                    self._store.release_unreferenced(self._made)
        self._store.release_unreferenced(self._made)  # a conversion that was quantized is of no further use
        if old is not None and not self._store.no_prune:
            self._store.release_unreferenced(old.digests)
        yield TransferStatus("success", notices=(*self._notices, *self._uploads.notices))

    @property
    def _made(self) -> list[Digest]:
        return [*self._uploads.made, *self._finisher.made, *self._written]

    def _base_manifest(self) -> Manifest | None:
        if self._base is None:
            return None
        self._base = self._store.manifests.resolve(self._base)  # a pull may have brought it in its own spelling
        return self._store.manifests.read(self._base)

    def _old_manifest(self) -> Manifest | None:
        try:
            return self._store.manifests.read(self._name)
        except (ModelNotFound, ModelDamaged):
            return None

    def _make(self, base: Manifest | None) -> Steps[None]:
        weights = yield from self._read_weights(base)
        drafts: list[LayerDraft] = []
        parameters: dict[str, Any] = {}
        for draft in weights:
            is_draft = draft.layer.media_type == media.DRAFT
            file_type = self._request.draft_quantize if is_draft else self._request.quantize
            finished = yield from self._finisher.finish(draft, file_type)
            parameters |= parameters_of_architecture(self._config, finished)
            self._config = config_with_weights(self._config, finished)
            drafts.append(finished)
        assembly = self._assemble(drafts, parameters)
        for draft in assembly.drafts:
            yield TransferStatus(draft.status)
        yield TransferStatus("writing manifest")
        self._store_model(assembly)

    def _read_weights(self, base: Manifest | None) -> Steps[list[LayerDraft]]:
        """All layers there are before the request's texts: the base's, then adapters, then draft models."""
        request = self._request
        if base is not None:
            weights = self._layers_of_base(base)
        elif request.from_:
            return []  # a remote model has no layers of its own
        else:
            weights = yield from self._uploads.read(request.files or {}, "files")
            weights += self._detected(weights)
        own = list(weights)
        drafts: list[LayerDraft] = []
        if request.draft_files:
            drafts = yield from self._uploads.read(request.draft_files, "draft_files", own)
        if request.adapters:
            weights += yield from self._uploads.read(request.adapters, "adapters", own)
        return weights + drafts

    def _layers_of_base(self, base: Manifest) -> list[LayerDraft]:
        assert self._base is not None
        config = self._read_config(base)
        self._config = first_config(self._request, config)
        drafts = []
        for layer in base.layers:
            try:
                size = self._store.blobs.size(layer.digest)
                self._store.blobs.touch(layer.digest)
            except BlobNotFound:
                raise BlobMissing(self._base.short, str(layer.digest)) from None
            copied = Layer(layer.media_type, layer.digest, size, self._base.short, layer.name)
            is_gguf = layer.media_type in _WITH_HEADER and config.is_gguf
            parts = (self._store.header(self._store.blobs.path(layer.digest)),) if is_gguf else ()
            drafts.append(existing(copied, parts=parts))
        if not any(draft.parts for draft in drafts):
            self._config = _with_details(self._config, config)
        return drafts

    def _read_config(self, base: Manifest) -> ModelConfig:
        if base.config is None:
            return ModelConfig()
        assert self._base is not None
        try:
            return ModelConfig.parse(self._store.blobs.read(base.config.digest, _MAX_CONFIG_BYTES))
        except BlobNotFound:
            raise BlobMissing(self._base.short, str(base.config.digest)) from None

    def _detected(self, weights: list[LayerDraft]) -> list[LayerDraft]:
        """Template and stop sequences for the chat templates of uploaded files, where we know them."""
        assembly = Assembly(self._store, [])
        for draft in weights:
            jinja = draft.header.chat_template if draft.header else ""
            known = detect_template(jinja) if jinja else None
            if known is not None:
                assembly.add(media.TEMPLATE, known.text.encode(), f"using autodetected template {known.name}")
                assembly.add(media.PARAMS, encode_params({"stop": list(known.stop)}))
        return assembly.drafts

    def _assemble(self, drafts: list[LayerDraft], parameters: dict[str, Any]) -> Assembly:
        request = self._request
        assembly = Assembly(self._store, drafts)
        if request.template:
            assembly.set_template(request.template)
        if request.system:
            assembly.set_system(request.system)
        for text in request.license:
            assembly.add(media.LICENSE, text.encode())
        assembly.merge_parameters(parameters | request.parameters)
        if request.messages:
            assembly.set_messages(request.messages)
        return assembly

    def _store_model(self, assembly: Assembly) -> None:
        for draft in assembly.drafts:
            if draft.data is not None:
                self._put(draft.data)
        raw = self._config.encode()
        config = Layer(media.CONFIG, self._put(raw), len(raw))
        self._store.write(self._name, Manifest(config, tuple(draft.layer for draft in assembly.drafts)))

    def _put(self, data: bytes) -> Digest:
        digest, is_new = self._store.blobs.put(data)
        if is_new:
            self._written.append(digest)
        return digest


def _with_details(config: ModelConfig, base: ModelConfig) -> ModelConfig:
    """A safetensors model has no GGUF header to read details from; they stay what the base model's config says."""
    return replace(
        config,
        model_family=config.model_family or base.model_family,
        model_families=config.model_families or base.model_families,
        model_type=config.model_type or base.model_type,
        file_type=config.file_type or base.file_type,
        context_length=config.context_length or base.context_length,
        embedding_length=config.embedding_length or base.embedding_length,
    )
