"""The models on disk, in Ollama's layout: blobs by digest, manifests by name, models made of both. No HTTP, no engine.

Everything here is plain blocking code, called through `aio.run_blocking`. Several processes may work on one store.
"""

from corral.store.blobs import BlobStore, BlobWriter
from corral.store.manifests import Layer, Manifest, ManifestStore
from corral.store.models import Model, ModelConfig, ModelStore, ModelSummary

__all__ = [
    "BlobStore",
    "BlobWriter",
    "Layer",
    "Manifest",
    "ManifestStore",
    "Model",
    "ModelConfig",
    "ModelStore",
    "ModelSummary",
]
