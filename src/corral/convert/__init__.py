"""Import of safetensors checkpoints and LoRA adapters as GGUF, without PyTorch. Called by `create`."""

from corral.convert.adapter import convert_adapter
from corral.convert.model import Conversion, ConvertedModel, convert_directory, plan_conversion

__all__ = ["Conversion", "ConvertedModel", "convert_adapter", "convert_directory", "plan_conversion"]
