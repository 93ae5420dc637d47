"""A blob that a node lacks comes from a peer, verified, resumed where it was cut, from the next one where one fails."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from corral.cluster import nodeblobs
from corral.cluster.listener import Listener
from corral.cluster.nodeblobs import NodeBlobs
from corral.cluster.sharing import BlobShare
from corral.cluster.wire import Need, Source
from corral.config import Settings
from corral.errors import BlobNotFound, CorralError, DigestMismatch
from corral.names import Digest
from corral.runner.spec import RunnerSpec

DATA = os.urandom(300_000)
DIGEST = Digest(hashlib.sha256(DATA).hexdigest())


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodeBlobs]:
    monkeypatch.setattr(nodeblobs, "_PATIENCE", replace(nodeblobs._PATIENCE, tries=2, first_delay_s=0.01))
    blobs = NodeBlobs(Settings(home=tmp_path / "node", models=tmp_path / "models"))
    yield blobs
    await blobs.close()


class Peer:
    """Somebody who has (other) bytes under the digest; counts how often it was asked."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.asked = path, 0
        path.write_bytes(data)
        self.listener = Listener()

    def find(self, digest: Digest) -> Path | None:
        self.asked += 1
        return self.path if digest == DIGEST else None

    async def source(self) -> Source:
        await self.listener.listen("127.0.0.1")
        return Source(self.listener.host, self.listener.port, self.listener.admit(BlobShare(self.find).serve))


@pytest.fixture
async def peers(tmp_path: Path) -> AsyncIterator[Callable[[bytes], Peer]]:
    made: list[Peer] = []

    def make(data: bytes) -> Peer:
        made.append(Peer(tmp_path / f"peer{len(made)}", data))
        return made[-1]

    yield make
    for peer in made:
        await peer.listener.close()


async def fetch(node: NodeBlobs, *sources: Source, size: int = len(DATA)) -> list[tuple[int, int]]:
    async with aclosing(node.fetch([Need(str(DIGEST), size, sources)])) as steps:
        return [step async for step in steps]


async def test_it_comes_from_a_peer_once(node: NodeBlobs, peers: Callable[[bytes], Peer]) -> None:
    peer = peers(DATA)
    source = await peer.source()
    assert (await fetch(node, source))[-1] == (len(DATA), len(DATA))
    path = node.find(DIGEST)
    assert path is not None
    assert path.read_bytes() == DATA
    asked = peer.asked
    assert await fetch(node, source) == []
    assert peer.asked == asked
    assert node.digests() == (str(DIGEST),)


async def test_a_peer_that_is_dead_or_has_other_bytes_is_passed_over(
    node: NodeBlobs, peers: Callable[[bytes], Peer], caplog: pytest.LogCaptureFixture
) -> None:
    liar, good = peers(bytes(len(DATA))), peers(DATA)
    dead = Source("127.0.0.1", 1, "t")
    with caplog.at_level(logging.CRITICAL, "corral"):
        await fetch(node, dead, await liar.source(), await good.source())
    assert liar.asked
    assert good.asked
    path = node.find(DIGEST)
    assert path is not None
    assert path.read_bytes() == DATA


async def test_wrong_bytes_get_no_name(node: NodeBlobs, peers: Callable[[bytes], Peer]) -> None:
    liar = peers(bytes(len(DATA)))
    with pytest.raises(DigestMismatch):
        await fetch(node, await liar.source())
    assert node.find(DIGEST) is None


async def test_without_the_token_and_without_a_source_there_is_nothing(
    node: NodeBlobs, peers: Callable[[bytes], Peer]
) -> None:
    source = await peers(DATA).source()
    with pytest.raises(CorralError):
        await fetch(node, Source(source.host, source.port, "guessed"))
    with pytest.raises(BlobNotFound):
        await fetch(node)
    assert node.find(DIGEST) is None


async def test_what_a_node_has_anyway_is_used_where_it_lies(node: NodeBlobs, tmp_path: Path) -> None:
    ours = tmp_path / "models" / "blobs" / DIGEST.filename
    ours.parent.mkdir(parents=True)
    ours.write_bytes(DATA)
    assert await fetch(node) == []
    with node.used(RunnerSpec(Path("/elsewhere") / DIGEST.filename)) as spec:
        assert spec.model_path == ours


async def test_what_was_used_longest_ago_makes_room_but_nothing_that_is_in_use(
    node: NodeBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = node.store.blobs
    digests = [store.put(bytes([number]) * 100)[0] for number in range(3)]
    for age, digest in zip((300, 200, 100), digests, strict=True):
        os.utime(store.path(digest), (1e9 - age, 1e9 - age))
    free = iter((0, 0, 2**40))
    monkeypatch.setattr(nodeblobs, "free_bytes", lambda _: next(free))
    with node.used(RunnerSpec(store.path(digests[0]))):
        os.utime(store.path(digests[0]), (1e9 - 300, 1e9 - 300))
        node.make_room(1)
    assert [store.has(digest) for digest in digests] == [True, False, True]
