"""OLMo 2 and 3: norms after each half. Facts: llama.cpp conversion/olmo.py, b11549."""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder
from corral.convert.family import Family, Head, Metadata
from corral.convert.hubconfig import HubConfig

_GLOBAL_EVERY = 4  # OLMo 3: each fourth layer looks at everything


def _olmo(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = decoder(config, checkpoint)
    if config.has("sliding_window"):
        layers = config.layers()
        plan = ["full_attention" if (i + 1) % _GLOBAL_EVERY == 0 else "sliding_attention" for i in range(layers)]
        kinds = config.texts("layer_types", default=plan)
        data["attention.sliding_window"] = config.integer("sliding_window")
        data["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in kinds]
    return data


_FAMILY = Family(gguf.MODEL_ARCH.OLMO2, _olmo, head=Head.NEEDED)

FAMILIES = {"Olmo2ForCausalLM": _FAMILY, "Olmo3ForCausalLM": _FAMILY}
