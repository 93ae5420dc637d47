"""`[img-N]`: where the images of a message stand in its text. Shared by the renderers of models that see.

N counts the images that a renderer has met so far in the conversation; `running` puts the N-th image there.
Source: ollama model/renderers/image_tags.go, 2026-08.
"""

from __future__ import annotations

from corral.core import Message
from corral.prompt.govalues import is_space


class ImageTags:
    """Numbers the images of a conversation as its messages are rendered."""

    def __init__(self, first: int = 0) -> None:
        self._next = first

    def place(self, message: Message, content: str | None = None) -> str:
        """The message's content, or the one given for it, with a tag for every image."""
        tagged = tag_images(message.content if content is None else content, len(message.images), self._next)
        self._next += len(message.images)
        return tagged


def tag_images(content: str, count: int, first: int = 0) -> str:
    """Tags stand at the literal `[img]`s in the text, those left over in front of it; tags already there stay alone."""
    if not count or "[img-" in content:
        return content
    before = ""
    for number in range(first, first + count):
        tag = f"[img-{number}]"
        if "[img]" in content:
            content = content.replace("[img]", tag, 1)
        else:
            before += tag
    apart = before and content and content[0] != "\ufffd" and not is_space(content[0])
    return before + (" " if apart else "") + content
