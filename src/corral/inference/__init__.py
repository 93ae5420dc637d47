"""The use cases: generate, chat, embed, rerank, count. From a request noun of core.py to a stream of its events.

No HTTP and no JSON of any API in here; `server/` decodes into these requests and encodes these events.
"""

from __future__ import annotations

from corral.inference.scores import Ranking
from corral.inference.service import Inference

__all__ = ["Inference", "Ranking"]
