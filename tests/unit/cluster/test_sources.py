"""Where a node gets a blob: from peers that have it, those on its own host first, and from the server at last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.cluster.driver import Started
from corral.cluster.launcher import ClusterLauncher
from corral.cluster.link import AgentLink, Nodes
from corral.cluster.wire import Source
from corral.config import Settings
from corral.errors import BlobNotFound, NodeGone
from corral.names import Digest
from corral.runner.spec import RunnerSpec
from corral.sched.memory import HostFigures
from corral.store.blobs import BlobStore


class Deaf(Nodes):
    """Nobody wants to know."""

    def joined(self, node_id: str, figures: HostFigures, blobs: tuple[str, ...] = ()) -> None:
        pass

    def reported(self, node_id: str, figures: HostFigures, blobs: tuple[str, ...] | None = None) -> None:
        pass


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[ClusterLauncher]:
    made = ClusterLauncher(Settings(home=tmp_path, models=tmp_path, cluster="auto"), BlobStore(tmp_path))
    yield made
    await made.close()


def link(launcher: ClusterLauncher, node: str, host: str, port: int, blobs: tuple[str, ...]) -> AgentLink:
    made = AgentLink(Started(node, host, port, "t"), Deaf())
    made.blobs, made.source, made.local_host = frozenset(blobs), Source(host, port, node), "127.0.0.1"
    launcher._links[node] = made
    return made


async def test_peers_come_before_the_server_and_the_same_host_before_others(launcher: ClusterLauncher) -> None:
    digest, _ = launcher._blobs.put(b"weights")
    link(launcher, "target", "10.0.0.1", 1, ())
    link(launcher, "far", "10.0.0.2", 2, (str(digest),))
    link(launcher, "near", "10.0.0.1", 3, (str(digest),))
    link(launcher, "without", "10.0.0.1", 4, ())
    [need] = await launcher._needs(RunnerSpec(launcher._blobs.path(digest)), "target")
    assert (need.digest, need.size_bytes) == (str(digest), 7)
    assert [source.token for source in need.sources[:-1]] == ["near", "far"]
    assert need.sources[-1].host == "127.0.0.1"
    again = await launcher._needs(RunnerSpec(launcher._blobs.path(digest)), "target")
    assert again[0].sources[-1] == need.sources[-1]


async def test_a_blob_that_the_server_lost_is_named(launcher: ClusterLauncher, tmp_path: Path) -> None:
    absent = Digest("0" * 64)
    with pytest.raises(BlobNotFound, match=str(absent)):
        await launcher._needs(RunnerSpec(tmp_path / "blobs" / absent.filename), "target")


async def test_a_runner_for_a_node_that_has_left_fails_to_start_and_can_be_stopped(
    launcher: ClusterLauncher, tmp_path: Path
) -> None:
    handle = launcher.create(RunnerSpec(tmp_path / "sha256-0"), node="gone")
    with pytest.raises(NodeGone):
        await handle.start()
    await handle.stop()
    assert handle.closed.is_set()


async def test_a_lost_node_closes_its_handles(launcher: ClusterLauncher, tmp_path: Path) -> None:
    digest, _ = launcher._blobs.put(b"weights")
    lost = link(launcher, "oak", "127.0.0.1", 1, (str(digest),))  # nobody listens there
    assert "cannot be reached" in await lost.run()
    handle = launcher.create(RunnerSpec(launcher._blobs.path(digest)), node="oak")
    with pytest.raises(NodeGone, match="oak"):
        await handle.start()
