"""What all encoders of pictures have in common: metadata from `vision_config` and from the preprocessor's config."""

from __future__ import annotations

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Made, Metadata
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
HALVES = [0.5, 0.5, 0.5]


# transformers 5 left out a level of SigLIP's modules that the hub's files have
SIGLIP_RENAMES = ((r"^vision_tower\.(embeddings|encoder|post_layernorm|head)\.", r"vision_tower.vision_model.\1."),)


def vision(config: HubConfig) -> HubConfig:
    """The encoder's part of the config."""
    return config.section("vision_config")


def preprocessor(checkpoint: Checkpoint) -> HubConfig:
    """What happens to a picture before the encoder sees it; newer checkpoints nest it in the processor's config."""
    values = checkpoint.json("preprocessor_config.json")
    processor = checkpoint.json("processor_config.json")
    inner = processor.get("image_processor")
    return HubConfig({**values, **processor, **(inner if isinstance(inner, dict) else {})}, "preprocessor_config.json")


def encoder(
    config: HubConfig, checkpoint: Checkpoint, kind: str, mean: list[float] = HALVES, std: list[float] = HALVES
) -> Metadata:
    """The metadata that the engine wants of each; `mean` and `std` are those of a checkpoint without a preprocessor."""
    eye, pictures = vision(config), preprocessor(checkpoint)
    return {
        "has_vision_encoder": True,
        "projector_type": kind,
        "vision.projection_dim": config.text_model().count("hidden_size"),
        "vision.image_size": eye.count("image_size"),
        "vision.patch_size": eye.count("patch_size"),
        "vision.embedding_length": eye.count("hidden_size"),
        "vision.feed_forward_length": eye.count("intermediate_size"),
        "vision.block_count": eye.layers(),
        "vision.attention.head_count": eye.count("num_attention_heads", "num_heads"),
        "vision.image_mean": pictures.numbers("image_mean", default=mean),
        "vision.image_std": pictures.numbers("image_std", default=std),
    }


def frames(_name: str, weight: Weight, _config: HubConfig) -> Made:
    """A convolution over two frames as one for each: the engine adds what they give."""
    out, channels, _, height, width = weight.need_dims(5).need_length(2, axis=2).shape
    for number, name in enumerate(("v.patch_embd.weight", "v.patch_embd.weight.1")):
        yield name, weight.cut(number, number + 1, axis=2).shaped(out, channels, height, width)
