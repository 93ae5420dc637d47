"""What models take of the server's memory, and caches that are bounded by it. Used by `ModelStore`.

A count of entries is no bound: a layer or a header that a stranger has made may be megabytes, of which a text with one
wide character takes four times as much.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from corral.gguf import GGUFHeader
from corral.store import manifests as media
from corral.store.model import Model

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_ENTRY_BYTES = 300  # a tensor, a key with its span, a layer of a manifest: about
_MESSAGE_BYTES = 200
_JSON_FACTOR = 16  # small values take so much more than their letters, at most


def header_bytes(header: GGUFHeader) -> int:
    """What a header takes."""
    texts = sum(sys.getsizeof(value) for value in header.metadata.values() if isinstance(value, str))
    return _ENTRY_BYTES * (len(header.tensors) + len(header.metadata)) + texts


def model_bytes(model: Model) -> int:
    """What a model takes, with the headers that it has read."""
    parameters = sum(layer.size for layer in model.manifest.of_type(media.PARAMS))
    texts = [model.template or "", model.system, *model.licenses]
    for message in model.messages:
        texts += [message.content, message.thinking]
    calls = sum(layer.size for layer in model.manifest.of_type(media.MESSAGES))  # and images
    read = vars(model)
    headers = [read.get("header"), read.get("draft_header"), *read.get("projector_headers", ())]
    return (
        len(model.manifest.raw)
        + _ENTRY_BYTES * len(model.manifest.layers)
        + _JSON_FACTOR * parameters
        + _MESSAGE_BYTES * len(model.messages)
        + calls
        + sum(map(sys.getsizeof, texts))
        + sum(header_bytes(header) for header in headers if header is not None)
    )


class WeighedCache(Generic[K, V]):
    """The values used last, as many as there is room for; one that takes an eighth of it is not kept at all.

    For any number of threads.
    """

    def __init__(self, most_bytes: int, most: int, weigh: Callable[[V], int]) -> None:
        self._most_bytes = most_bytes
        self._most = most
        self._weigh = weigh
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._mutex = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The value, which now is the one used last."""
        with self._mutex:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V) -> None:
        """Keep a value, and drop those that there is no room for any more."""
        weight = self._weigh(value)
        with self._mutex:
            self._bytes -= self._values.pop(key, (None, 0))[1]
            if weight > self._most_bytes // 8:
                return
            self._values[key] = (value, weight)
            self._bytes += weight
            while len(self._values) > self._most or self._bytes > self._most_bytes:
                self._bytes -= self._values.popitem(last=False)[1][1]
