"""The library kit: tiny models in Ollama's own layouts, what real Ollama answers for them, and how answers compare.

A small selection is in tests/golden/library; the whole kit is used where the owners' shared folder is. Tolerances are
those of the kit's checker: the first token's five best within 0.4, every token's logprob within 0.5.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.gguf import read_header
from corral.names import ModelName
from corral.runner.client import RunnerClient
from corral.store import Manifest, ModelStore
from corral.translate import recognize, write

GOLDEN = Path(__file__).parents[1] / "golden" / "library"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "library"
_FIRST_TOLERANCE, _LATER_TOLERANCE, _SMALLEST_COSINE = 0.4, 0.5, 0.999
_NEAR_TIE = 0.25  # between a step's two best: either may be drawn, and all that follows differs
_MODEL, _PROJECTOR = "application/vnd.ollama.image.model", "application/vnd.ollama.image.projector"

Answer = dict[str, Any]


def kit() -> Path:
    """The whole kit where it is, else the selection."""
    return SHARED if SHARED.is_dir() else GOLDEN


def model_names(folder: Path) -> list[str]:
    """The models of a kit."""
    return sorted(path.name for path in (folder / "models").iterdir())


@dataclass(frozen=True)
class KitModel:
    """One model of a kit."""

    folder: Path
    name: str

    @property
    def weights(self) -> Path:
        """The blob with the text model."""
        return self._blobs(_MODEL)[0]

    @property
    def projectors(self) -> list[Path]:
        """The blobs of projectors of their own."""
        return self._blobs(_PROJECTOR)

    @property
    def reference(self) -> Answer:
        """What real Ollama answers, or the model's makers where these are known to be right (`alt`)."""
        reference: Answer = json.loads((self.folder / "references" / f"{self.name}.json").read_text())
        alternative = reference.get("alt") or {}
        return reference | {key: value for key, value in alternative.items() if key not in ("why", "api")}

    def _blobs(self, media_type: str) -> list[Path]:
        folder = self.folder / "models" / self.name
        layers = json.loads((folder / "manifest.json").read_text())["layers"]
        return [folder / layer["digest"].replace(":", "-") for layer in layers if layer["mediaType"] == media_type]

    def medium(self, name: str) -> str:
        """One of the kit's pictures or sounds, in base64."""
        return base64.b64encode((self.folder / "images" / name).read_bytes()).decode()


def add_kit_model(store: ModelStore, name: str, folder: Path = GOLDEN) -> ModelName:
    """Put a kit model into a store, under its own name, as a pull leaves it."""
    source = folder / "models" / name
    for path in source.glob("sha256-*"):
        store.blobs.put(path.read_bytes())
    parsed = store.resolve(name)
    store.write(parsed, Manifest.parse((source / "manifest.json").read_bytes()))
    return parsed


def translated(source: Path, target: Path) -> Path:
    """The text model of a library file as the engine loads it: a new file at `target`, or the source itself."""
    layout = recognize(read_header(source))
    plan = layout.text_plan() if layout is not None else None
    if plan is None:
        return source
    with target.open("wb") as file:
        write(source, plan, file)
    assert target.stat().st_size == plan.size_bytes
    return target


def translated_projector(source: Path, target: Path) -> Path | None:
    """The projector that is in a library file, at `target`; None where the engine can use none."""
    layout = recognize(read_header(source))
    plan = layout.projector_plan() if layout is not None else None
    if plan is None:
        return None
    with target.open("wb") as file:
        write(source, plan, file)
    assert target.stat().st_size == plan.size_bytes
    return target


async def differing_tokens(client: RunnerClient, reference: Answer) -> list[str]:
    """The texts that the engine cuts into other tokens."""
    differing = []
    for entry in reference["tokens"]:
        got = await client.tokenize(entry["text"], add_special=True)
        if got != entry["ids"]:
            differing.append(f"{entry['text'][:40]!r}: {got[:12]} instead of {entry['ids'][:12]}")
    return differing


async def differing_completions(client: RunnerClient, reference: Answer) -> list[str]:
    """The prompts that the engine continues otherwise, greedily."""
    differing = []
    for number, entry in enumerate(reference.get("completions", [])):
        prompt = next(known["ids"] for known in reference["tokens"] if known["text"] == entry["prompt"])
        why = _difference(await _continue(client, prompt, len(entry["ids"])), entry)
        if why:
            differing.append(f"{number}: {why}")
    return differing


async def differing_media(client: RunnerClient, model: KitModel, kind: str) -> list[str]:
    """The pictures (`images`) or sounds (`sounds`) that the engine describes otherwise, greedily."""
    marker = str((await client.props())["media_marker"])
    differing = []
    for entry in model.reference.get(kind, []):
        prompt = {
            "prompt_string": entry["prompt"].replace("<__media__>", marker),
            "multimodal_data": [model.medium(entry["image"])],
        }
        clear = _clear_steps(entry)
        why = _difference(
            (await _continue(client, prompt, len(entry["ids"])))[:clear],
            entry | {"ids": entry["ids"][:clear], "steps": entry["steps"][:clear]},
        )
        if why:
            differing.append(f"{entry['image']}: {why}")
    return differing


def _clear_steps(entry: Answer) -> int:
    """How many steps have one best token; at least one."""
    for index, step in enumerate(entry["steps"]):
        if index and step[0][1] - step[1][1] < _NEAR_TIE:
            return index
    return len(entry["steps"])


async def differing_embeddings(client: RunnerClient, reference: Answer) -> list[str]:
    """The texts of which the engine makes other vectors."""
    differing = []
    for entry in reference.get("embeddings", []):
        [(vector, _)] = await client.embeddings([entry["text"]])
        likeness = _cosine(vector, entry["vector"])
        if likeness <= _SMALLEST_COSINE:
            differing.append(f"{entry['text'][:40]!r}: cosine {likeness:.6f}")
    return differing


async def _continue(
    client: RunnerClient, prompt: list[int] | dict[str, Any], count: int
) -> list[tuple[int, dict[int, float]]]:
    """The drawn token and the logprobs of the five best, step by step."""
    body = {"prompt": prompt, "n_predict": count, "n_probs": 5, "temperature": 0, "top_k": 1, "cache_prompt": False}
    steps: list[tuple[int, dict[int, float]]] = []
    async for event in client.completion(body | {"return_tokens": True}):
        steps.extend(
            (step["id"], {top["id"]: top["logprob"] for top in step["top_logprobs"]})
            for step in event.get("completion_probabilities") or []
        )
    return steps


def _difference(steps: list[tuple[int, dict[int, float]]], entry: Answer) -> str:
    drawn = [token for token, _ in steps]
    if drawn != entry["ids"][: len(drawn)] or len(drawn) < len(entry["ids"]):
        return f"{drawn} instead of {entry['ids']}"
    for index, ((_, found), wanted) in enumerate(zip(steps, entry["steps"], strict=False)):
        best, tolerance = dict(map(tuple, wanted)), _LATER_TOLERANCE if index else _FIRST_TOLERANCE
        common = best.keys() & found.keys()
        pairs = common if not index else common & {entry["ids"][index]}
        if len(common) < 3 or any(abs(best[token] - found[token]) > tolerance for token in pairs):
            return f"step {index}: {found} instead of {best}"
    return ""


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    length = math.sqrt(sum(value * value for value in one) * sum(value * value for value in other))
    return sum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0
