"""What a conversation with a model is made of: options, history, how to show answers; and the requests it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.cli.answer import AnswerStyle
from corral.names import ModelName

WireMessage = dict[str, Any]  # a message as /api/chat has it


@dataclass(slots=True)
class Session:
    """The state of one `corral run`. `think` None: left to the server; `format` None: free text."""

    model: str
    system: str = ""
    format: Any = None
    think: bool | str | None = None
    think_chosen: bool = False  # by flag or /set, not by the model's capabilities
    keep_alive: str = ""
    hide_thinking: bool = False
    verbose: bool = False
    word_wrap: bool = True
    markdown: bool = False
    multimodal: bool = False
    parent_model: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    loaded_messages: list[WireMessage] = field(default_factory=list)  # the model's own, of MESSAGE commands
    messages: list[WireMessage] = field(default_factory=list)

    @property
    def style(self) -> AnswerStyle:
        """How answers are printed."""
        return AnswerStyle(self.word_wrap, self.hide_thinking, self.markdown)

    def describe(self, shown: Mapping[str, Any]) -> None:
        """Take over what /api/show says of the model."""
        capabilities = shown.get("capabilities") or []
        self.multimodal = (
            "vision" in capabilities
            or "audio" in capabilities
            or bool(shown.get("projector_info"))
            or any(".vision." in key for key in shown.get("model_info") or {})
        )
        self.parent_model = str((shown.get("details") or {}).get("parent_model") or "")
        self.loaded_messages = list(shown.get("messages") or [])
        if not self.think_chosen:
            self.think = True if "thinking" in capabilities else None

    def settings_body(self) -> dict[str, Any]:
        """The fields that generate and chat share."""
        body: dict[str, Any] = {"model": self.model, "options": self.options}
        optional = {"format": self.format, "think": self.think, "keep_alive": self.keep_alive or None}
        return body | {key: value for key, value in optional.items() if value is not None}

    def load_body(self) -> dict[str, Any]:
        """A generate request without a prompt: loads the model, and fails when it cannot think as asked."""
        body = self.settings_body()
        body.pop("format", None)
        return {**body, "prompt": "", "progress": True}

    def generate_body(self, prompt: str, images: list[str]) -> dict[str, Any]:
        """One question without history."""
        return {**self.settings_body(), "prompt": prompt, **({"images": images} if images else {})}

    def chat_body(self) -> dict[str, Any]:
        """The next turn of the conversation; the server puts the model's own messages before it."""
        return {**self.settings_body(), "messages": self.messages}

    def save_body(self, name: str) -> dict[str, Any]:
        """A create request that makes a model of this session."""
        parent = self.parent_model if ModelName.parse_loose(self.parent_model).is_valid else ""
        body: dict[str, Any] = {"model": name, "from": parent or self.model}
        if self.system:
            body["system"] = self.system
        if self.options:
            body["parameters"] = self.options
        messages = [*self.loaded_messages, *self.messages]
        return {**body, "messages": messages} if messages else body

    def set_system(self, text: str) -> None:
        """Remember the system message and make it the history's last message."""
        self.system = text
        if self.messages and self.messages[-1]["role"] == "system":
            self.messages.pop()
        self.messages.append({"role": "system", "content": text})

    def take_back(self, role: str) -> str | None:
        """Drop the last message of a role with all that came after it; its text, or None where there is none."""
        for place in reversed(range(len(self.messages))):
            if self.messages[place]["role"] == role:
                text = str(self.messages[place]["content"])
                del self.messages[place:]
                return text
        return None

    def clear(self) -> None:
        """Forget the conversation, not the system message."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []
