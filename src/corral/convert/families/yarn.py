"""Stretched rotary positions (linear, YaRN) as metadata from which the engine computes what `transformers` does.

The engine scales what it rotates by a factor of its own, taken from the stretch and from `yarn_log_multiplier`, times
`rope.scaling.attn_factor`; it does not look at `yarn_attn_factor`. Facts: transformers modeling_rope_utils.py, 5.24;
llama.cpp llama-context.cpp and models/deepseek2.cpp, b11549.
"""

from __future__ import annotations

import math

from corral.convert.family import Metadata
from corral.convert.hubconfig import HubConfig

_UNIT = 0.1  # of all these logarithms
_NEGLIGIBLE = 1e-6
_KEYS = {
    "rope.scaling.yarn_ext_factor": ("extrapolation_factor",),
    "rope.scaling.yarn_beta_fast": ("beta_fast",),
    "rope.scaling.yarn_beta_slow": ("beta_slow",),
}


def stretched(settings: HubConfig) -> Metadata:
    """Metadata of a stretch; {} without one. `settings`: rotary parameters."""
    kind = settings.text("rope_type", default="default")
    if kind not in {"linear", "yarn"}:
        return {}
    data: Metadata = {"rope.scaling.type": kind, "rope.scaling.factor": settings.positive("factor")}
    if settings.has("original_max_position_embeddings"):
        data["rope.scaling.original_context_length"] = settings.integer("original_max_position_embeddings")
    if kind == "yarn":
        data |= {k: settings.number(*names) for k, names in _KEYS.items() if any(map(settings.has, names))}
        data |= _attention(_wanted(settings), _gain(settings.positive("factor")))
    return data


def with_log_multiplier(settings: HubConfig) -> Metadata:
    """The same for an architecture that reads `yarn_log_multiplier` as the config's `mscale_all_dim`."""
    data = stretched(settings)
    if data.get("rope.scaling.type") != "yarn" or not settings.has("mscale_all_dim"):
        return data
    factor, whole = settings.positive("factor"), settings.number("mscale_all_dim")
    data.pop("rope.scaling.attn_factor", None)
    own = _gain(factor) / _gain(factor, whole) if whole else _gain(factor)
    return data | {"rope.scaling.yarn_log_multiplier": whole} | _attention(_wanted(settings), own)


def for_latent_attention(settings: HubConfig) -> Metadata:
    """The same for latent attention, where the engine scales scores by what it scales rotated entries by, squared.

    Its multiplier is chosen such that scores are scaled as the config says: by `mscale_all_dim`, or not at all.
    """
    data = stretched(settings)
    kind = data.get("rope.scaling.type")
    factor = settings.positive("factor", default=1.0)
    if kind is None or factor <= 1:
        return data
    data.pop("rope.scaling.attn_factor", None)
    rotated = _wanted(settings) if kind == "yarn" else 1.0
    before = rotated if kind == "yarn" else _gain(factor)  # what scores are scaled by without the multiplier
    whole = settings.number("mscale_all_dim", default=0.0) if kind == "yarn" else 0.0
    multiplier = (_gain(factor, whole) / before - 1.0) / (_UNIT * math.log(factor))
    if abs(multiplier) < _NEGLIGIBLE:
        return data | (_attention(rotated, _gain(factor)) if kind == "yarn" else {})
    data["rope.scaling.yarn_log_multiplier"] = _UNIT * multiplier  # the engine divides it by the unit
    return data | (_attention(rotated, 1.0) if kind == "yarn" else {})


def _gain(factor: float, strength: float = 1.0) -> float:
    return 1.0 + _UNIT * strength * math.log(factor) if factor > 1 else 1.0


def _wanted(settings: HubConfig) -> float:
    """What rotated entries are scaled by, as `transformers` computes it."""
    factor = settings.positive("factor")
    if settings.has("attention_factor") or settings.has("attn_factor"):
        return settings.positive("attention_factor", "attn_factor")
    each, whole = (settings.number(name, default=0.0) for name in ("mscale", "mscale_all_dim"))
    return _gain(factor, each) / _gain(factor, whole) if each and whole else _gain(factor)


def _attention(wanted: float, own: float) -> Metadata:
    """What the engine's own factor lacks."""
    return {"rope.scaling.attn_factor": wanted / own} if abs(wanted / own - 1.0) > _NEGLIGIBLE else {}
