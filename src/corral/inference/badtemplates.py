"""`BadTemplates`: models whose chat template the engine does not start with. Kept by shared.py, asked by leasing.py.

The engine tries a chat template when it starts, and ends when that fails. Much needs no template (raw prompts, tokens,
a template of ours), so such a model is started with another in the place of its own, and only a chat that would be
templated by the engine is refused. What is known is forgotten with the server.
"""

from __future__ import annotations

from collections import OrderedDict

from corral.errors import ChatTemplateUnusable
from corral.store.models import Model

_MOST = 256


class BadTemplates:
    """By the weights' blob, which never changes."""

    def __init__(self) -> None:
        self._why: OrderedDict[str, str] = OrderedDict()

    def note(self, model: Model, error: ChatTemplateUnusable) -> None:
        """The engine has refused the template of a model."""
        self._why[str(model.weights)] = error.why
        while len(self._why) > _MOST:
            self._why.popitem(last=False)

    def knows(self, model: Model) -> bool:
        """Whether the engine would refuse it again."""
        return str(model.weights) in self._why

    def check(self, model: Model) -> None:
        """Raise ChatTemplateUnusable for a model that it has refused."""
        if self.knows(model):
            raise ChatTemplateUnusable(self._why[str(model.weights)])
