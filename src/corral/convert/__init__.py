"""Import of safetensors checkpoints and LoRA adapters as GGUF, without PyTorch. Called by `create`."""

from corral.convert.adapter import convert_adapter
from corral.convert.model import ConvertedModel, convert_directory

__all__ = ["ConvertedModel", "convert_adapter", "convert_directory"]
