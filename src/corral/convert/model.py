"""A safetensors checkpoint to one GGUF file, or to two: the text and its eyes. `plan_conversion` is the entry.

Everything that can be wrong with a checkpoint's lists, shapes and configs is found while planning, which reads no
weights; writing then reads them a piece at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families import class_name, find_family
from corral.convert.families.embedding import decoder_pooling
from corral.convert.family import Family, Projector, Rule, Value
from corral.convert.filling import completed
from corral.convert.ggufplan import GGUFPlan
from corral.convert.hubconfig import LARGEST_FLOAT32, HubConfig
from corral.convert.outputhead import settle_head
from corral.convert.outputs import Output
from corral.convert.quantized import dequantized
from corral.convert.unheeded import unheeded
from corral.convert.unloadable import refuse_unloadable
from corral.convert.vocabulary import Vocabulary, read_vocabulary
from corral.convert.weights import Weight, stacked
from corral.core import Notice
from corral.errors import InvalidRequest

_OUTER = re.compile(r"^model\.(?=(visual|vision_tower|vision_model|multi_modal_projector|audio_tower)\.)")
_ENCODER = re.compile(
    r"^(visual|vision_tower|vision_model|multi_modal_projector|audio_tower|model\.embed_(vision|audio))\."
)
_EXPERT = re.compile(r"^(.*\.experts)\.(\d{1,5})\.(.+)$")
_OWN_NAMES = re.compile(r"^(blk\.\d+|v|mm|output)\.")  # GGUF's, which rules may give where the library's table has none
_PROJECTION_LAYERS = 8  # the table numbers a projection's layers as it does blocks
_UNUSED = (".rotary_emb.inv_freq", ".masked_bias", ".attention.bias")
_ENDINGS = (".weight", ".bias", ".input_max", ".input_min", ".output_max", ".output_min")


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    """What came out: the files, GGUF's architecture name, and what the caller must be told."""

    path: Path
    architecture: str
    notices: tuple[Notice, ...] = ()
    projector: Path | None = None


@dataclass(frozen=True, slots=True)
class Conversion:
    """A planned conversion."""

    text: GGUFPlan
    projector: GGUFPlan | None
    notices: tuple[Notice, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors to be written."""
        return self.text.size_bytes + (self.projector.size_bytes if self.projector else 0)

    def write(self, out: Path, projector: Path, progress: Callable[[int, int], None] | None = None) -> ConvertedModel:
        """Write the text to `out` and the eyes, if there are any, to `projector`, as GGUF v3.

        `progress(done_bytes, total_bytes)` is called after each piece. What is half-written when this fails is the
        caller's to remove.
        """
        total, done = self.size_bytes, 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

        self.text.write(out, advance)
        if self.projector is not None:
            self.projector.write(projector, advance)
        path = projector if self.projector is not None else None
        return ConvertedModel(out, self.text.architecture, self.notices, path)


def plan_conversion(files: Mapping[str, Path]) -> Conversion:
    """How the checkpoint in `files` (relative slash path → local file) becomes GGUF.

    Raises InvalidRequest naming the file or tensor and what is wrong.
    """
    checkpoint = Checkpoint(files)
    family = find_family(checkpoint)
    whole = HubConfig(checkpoint.config)
    read = {name: tensor.weight() for name, tensor in checkpoint.tensors().items()}
    weights, eight_bit = dequantized(read, {**whole.text_model().values, **whole.values})
    named = {_OUTER.sub("", name): weight for name, weight in weights.items() if not name.endswith(_UNUSED)}
    eyes = {name: weight for name, weight in named.items() if _ENCODER.match(name)}
    spoken = {name: weight for name, weight in named.items() if name not in eyes}
    config = completed(whole.text_model(), class_name(checkpoint), spoken)
    refuse_unloadable(config, family.name)
    outputs = _text_outputs(checkpoint, family, config, spoken)
    pooled = {} if family.embedding else decoder_pooling(checkpoint)
    vocabulary = read_vocabulary(checkpoint, family.tokenizer, is_pooled=bool(pooled))
    notices = _fit(vocabulary, family, config, outputs) + unheeded(config, family.name)
    metadata: dict[str, Value] = {**family.metadata(config, checkpoint), **pooled}
    if "vocab_size" in metadata:
        metadata["vocab_size"] = len(vocabulary.tokens)
    _check(metadata)
    if eight_bit:
        metadata |= {"source_quantization": "hf_fp8", "source_fp8_tensors": eight_bit}
    text = GGUFPlan(family.name, metadata, outputs, {}, vocabulary)
    projector = None
    if eyes and family.projector:
        projector = _projector_plan(checkpoint, family.projector, whole, eyes, weights)
    elif eyes:
        message = f"the model's encoder of pictures or sound is left out: it cannot be imported for {family.name}"
        notices.append(Notice("encoder_dropped", message, {"architecture": family.name, "tensors": len(eyes)}))
    return Conversion(text, projector, tuple(notices))


def convert_directory(
    files: Mapping[str, Path], out: Path, progress: Callable[[int, int], None] | None = None
) -> ConvertedModel:
    """Plan and write at once; the eyes go beside `out`, with `.projector` added to its name."""
    return plan_conversion(files).write(out, out.with_name(f"{out.name}.projector"), progress)


def _text_outputs(
    checkpoint: Checkpoint, family: Family, config: HubConfig, weights: Mapping[str, Weight]
) -> list[Output]:
    plain = {_renamed(name.replace("language_model.", ""), family.renames): weight for name, weight in weights.items()}
    gathered = family.gather(_experts_together(settle_head(plain, config, family), config), config)
    blocks = family.blocks(config, checkpoint)
    found = _apply(gathered, family.rules, config, gguf.get_tensor_name_map(family.arch, blocks), family.name)
    found |= family.more_tensors(config, checkpoint)
    outputs = [Output(name, weight) for name, weight in found.items()]
    present = {output.block for output in outputs}
    missing = [number for number in range(blocks) if number not in present]
    if missing:
        raise InvalidRequest(f"the checkpoint has no tensors of layer {missing[0]} of {blocks}", field="files")
    return sorted(outputs, key=lambda output: (output.block, output.name))


def _renamed(name: str, renames: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def _experts_together(weights: Mapping[str, Weight], config: HubConfig) -> dict[str, Weight]:
    """Experts that lie apart as stacks, which are read an expert at a time. Raises InvalidRequest for a gap."""
    found: dict[str, Weight] = {}
    stacks: dict[str, dict[int, Weight]] = {}
    for name, weight in weights.items():
        match = _EXPERT.match(name)
        if match:
            stacks.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = weight
        else:
            found[name] = weight
    for name, members in stacks.items():
        count = config.count("num_local_experts", "num_experts", "n_routed_experts", default=len(members))
        missing = next((number for number in range(count) if number not in members), None)
        if missing is not None:
            lost = name.replace(".experts.", f".experts.{missing}.")
            raise InvalidRequest(f"tensor {lost!r} is missing: config.json speaks of {count} experts", field="files")
        if len(members) > count:
            raise members[max(members)].wrong_shape(f"{count} experts")
        found[name] = stacked([members[number] for number in range(count)])
    return found


def _apply(
    weights: Mapping[str, Weight], rules: Sequence[Rule], config: HubConfig, names: Any, label: str
) -> dict[str, Weight]:
    found: dict[str, Weight] = {}
    for name, weight in weights.items():
        action = next((rule.action for rule in rules if rule.pattern.search(name)), None)
        for plain, made in action(name, weight, config) if action else [(name, weight)]:
            own = plain if _OWN_NAMES.match(plain) else names.get_name(plain, try_suffixes=_ENDINGS)
            if own is None:
                raise InvalidRequest(f"tensor {weight.name!r} is not one of {label}'s", field="files")
            if own in found:
                raise InvalidRequest(f"tensor {weight.name!r} is there twice, as {own}", field="files")
            found[own] = made
    return found


def _projector_plan(
    checkpoint: Checkpoint,
    projector: Projector,
    config: HubConfig,
    eyes: Mapping[str, Weight],
    weights: Mapping[str, Weight],
) -> GGUFPlan:
    metadata = projector.metadata(config, checkpoint)
    _check(metadata)
    blocks = max(int(str(metadata.get(f"{sense}.block_count", 0))) for sense in ("vision", "audio"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, max(blocks, _PROJECTION_LAYERS))
    plain = {_renamed(name, projector.renames): weight for name, weight in eyes.items()}
    found = _apply(plain, projector.rules, config, names, "the projector")
    found |= projector.more_tensors(config, checkpoint, weights)
    outputs = sorted((Output(name, weight) for name, weight in found.items()), key=lambda output: output.name)
    return GGUFPlan("clip", metadata, outputs, {"general.type": "mmproj"})


def _check(metadata: Mapping[str, Value]) -> None:
    """Numbers that were computed from a config must fit their place in a GGUF."""
    for key, value in metadata.items():
        is_odd = isinstance(value, int) and not 0 <= value < 2**32
        if is_odd or (isinstance(value, float) and not abs(value) <= LARGEST_FLOAT32):
            raise InvalidRequest(f"config.json: {key} comes out as {value}", field="files")


def _fit(vocabulary: Vocabulary, family: Family, config: HubConfig, outputs: Sequence[Output]) -> list[Notice]:
    """Make the vocabulary and the model fit each other, which the engine demands to have one size."""
    rows = next((output.weight.shape[0] for output in outputs if output.name == "token_embd.weight"), None)
    if rows is None:
        raise InvalidRequest("the checkpoint has no token embedding", field="files")
    vocabulary.fit_to(rows)
    if family.embedding:
        vocabulary.token_kinds = config.count("type_vocab_size", default=1)
    for kind, text in family.turn_ends.items():
        number = vocabulary.find(text)
        if number is not None:
            vocabulary.special[kind] = number
    if vocabulary.model == (family.tokenizer or "gpt2") and family.pre:
        vocabulary.pre = family.pre
    elif not vocabulary.pre_is_known:
        message = "the tokenizer's splitting rule is not known; the default one is used, which may cost quality"
        return [Notice("pre_tokenizer_unknown", message)]
    return []
