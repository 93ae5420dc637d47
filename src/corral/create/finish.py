"""What happens to a weight layer before it goes into a manifest: quantizing, merging shards, missing metadata.

Source of statuses and conditions: ollama server/create.go createModel, server/quantization.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from corral.core import TransferStatus
from corral.create.drafts import LayerDraft, Steps, layer_status
from corral.create.mixture import FLOAT_TYPES
from corral.create.quantize import quantize, quantized_bytes, source_type, split_keys
from corral.create.rewrite import Sink, rewrite, rewritten_bytes, tensors_of
from corral.errors import QuantizationError
from corral.gguf import GGUFHeader
from corral.names import Digest
from corral.store import manifests as media
from corral.store.manifests import Layer
from corral.store.models import ModelStore

NO_DIGEST = "0" * 19  # what progress lines about a blob without a digest yet carry

Write = Callable[[Sink], Iterator[int]]  # writes a GGUF, yields source bytes done


class Finisher:
    """Finishes the weight layers of one create call. `made`: digests of blobs it wrote."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self.made: list[Digest] = []

    def finish(self, draft: LayerDraft, file_type: str) -> Steps[LayerDraft]:
        """The layer as it should be; `file_type` "" leaves its weights as they are. Raises QuantizationError."""
        if draft.header is None:
            return draft
        media_type = draft.layer.media_type
        if media_type in {media.MODEL, media.DRAFT}:
            target = _target(draft, file_type)
            if target:
                return (yield from self._quantize(draft, target))
            if len(draft.parts) > 1:
                return (yield from self._merge(draft))
        if draft.uploaded and media_type == media.MODEL and not draft.has_companions:
            # Ollama rewrites such a file here, which makes it forget the file's name. Ours stays as it is, and checked.
            yield TransferStatus("verifying conversion")
            return replace(draft, layer=replace(draft.layer, source=""))
        if draft.uploaded and media_type == media.PROJECTOR and _lacks_projector_type(draft.header):
            yield TransferStatus("updating GGUF projector metadata")
            return (yield from self._write(draft, draft.header.file_size, "", _with_projector_type(draft)))
        return draft

    def _quantize(self, draft: LayerDraft, file_type: str) -> Steps[LayerDraft]:
        status = f"quantizing {source_type(draft.parts)} model to {file_type}"
        size = quantized_bytes(draft.parts, file_type)
        made = yield from self._write(draft, size, status, lambda sink: quantize(sink, draft.parts, file_type))
        yield TransferStatus("verifying conversion")
        return made

    def _merge(self, draft: LayerDraft) -> Steps[LayerDraft]:
        base = draft.parts[0]
        tensors = [(tensor, tensor.info.type_name) for tensor in tensors_of(draft.parts)]
        size = rewritten_bytes(draft.parts, tensors)
        write: Write = lambda sink: rewrite(sink, base, tensors, drop=split_keys(base))  # noqa: E731
        made = yield from self._write(draft, size, "validating GGUF model", write)
        yield TransferStatus("verifying conversion")
        return made

    def _write(self, draft: LayerDraft, size_bytes: int, status: str, write: Write) -> Steps[LayerDraft]:
        """Write a layer anew, as a blob; lines of `status`, if there is one, tell how far."""
        total = sum(part.file_size for part in draft.parts)
        source_bytes = max(1, sum(part.tensor_bytes for part in draft.parts))
        known = set(self._store.blobs.digests())
        with self._store.blobs.writer(size_bytes=size_bytes) as writer:
            last = -1
            for done in write(writer):
                if status and done != last:
                    last = done
                    yield TransferStatus(status, NO_DIGEST, total, total * done // source_bytes)
            digest = writer.commit()
        is_new = digest not in known
        if is_new:
            self.made.append(digest)
        header = self._store.header(self._store.blobs.path(digest))
        layer = Layer(draft.layer.media_type, digest, header.file_size)
        return LayerDraft(layer, layer_status(digest, is_new=is_new), (header,), uploaded=True)


def _target(draft: LayerDraft, file_type: str) -> str:
    """The file type to quantize to, empty for none."""
    source, is_model = source_type(draft.parts), draft.layer.media_type == media.MODEL
    if not file_type:
        return "Q8_0" if is_model and source in FLOAT_TYPES and _was_fp8(draft.parts[0]) else ""
    if source in FLOAT_TYPES:
        return file_type if file_type != source else ""
    if is_model:
        raise QuantizationError("quantization is only supported for F16, BF16 and F32 models")
    raise QuantizationError(f"draft quantization requires an unquantized draft model, got {source}")


def _was_fp8(header: GGUFHeader) -> bool:
    """Whether the checkpoint held eight-bit floats, which conversion widened."""
    tensors = header.get("source_fp8_tensors")
    return header.text("source_quantization") == "hf_fp8" and bool(getattr(tensors, "length", 0))


def _lacks_projector_type(header: GGUFHeader) -> bool:
    keys = ("clip.projector_type", "clip.vision.projector_type")
    says_vision = header.get("has_vision_encoder") is True
    return header.architecture == "clip" and says_vision and not any(key in header.metadata for key in keys)


def _with_projector_type(draft: LayerDraft) -> Write:
    tensors = [(tensor, tensor.info.type_name) for tensor in tensors_of(draft.parts)]
    return lambda sink: rewrite(sink, draft.parts[0], tensors, put={"clip.projector_type": "mlp"})
