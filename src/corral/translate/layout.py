"""`recognize`: which of Ollama's own layouts a file is in, by its header alone; `Layout` plans what to make of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from corral.gguf import GGUFHeader
from corral.translate.families import FAMILIES
from corral.translate.family import Family, Projector
from corral.translate.projectors import PROJECTORS
from corral.translate.translation import Translation
from corral.translate.view import View


@dataclass(frozen=True)
class Layout:
    """A file in a layout that llama.cpp does not load; `family` names the layout."""

    family: str
    header: GGUFHeader = field(repr=False)
    _text: Family | None = field(default=None, repr=False)
    _projector: Projector | None = field(default=None, repr=False)

    def text_plan(self) -> Translation | None:
        """The text model's file; None for a file that is only a projector.

        Raises UntranslatableModel, InvalidGGUF and OSError.
        """
        if self._text is None:
            return None
        view = View(self.header)
        self._text.text(view)
        return view.finish()

    def projector_plan(self) -> Translation | None:
        """The projector's file; None when this one has no eyes and no ears that the engine can use. Raises likewise."""
        if self._projector is None or not (self.sees or self.hears):
            return None
        view = View(self.header, empty=True)
        self._projector.plan(view)
        return view.finish()

    @property
    def sees(self) -> bool:
        """Whether the file has a vision encoder that the engine can use once it is translated."""
        return self._projector is not None and self._projector.sees(self.header)

    @property
    def hears(self) -> bool:
        """Whether the file has an audio encoder that the engine can use once it is translated."""
        return self._projector is not None and self._projector.hears(self.header)


def recognize(header: GGUFHeader) -> Layout | None:
    """The layout of a file; None when llama.cpp loads it as it is, or nobody knows it.

    Reads nothing but the header; only a llama without a pre-tokenizer is asked for the token by which Llama 3 is known,
    which raises OSError and InvalidGGUF.
    """
    projector = PROJECTORS.get(header.architecture)
    for family in FAMILIES.get(header.architecture, ()):
        if family.recognizes(header):
            return Layout(family.name, header, family, projector)
    if projector is not None and projector.recognizes(header):  # a file that is nothing but a projector
        return Layout(header.architecture, header, None, projector)
    return None
