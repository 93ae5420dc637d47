"""Make tests/golden/convert.json: what `transformers` computes for tiny models of each family.

Needs torch, transformers and sentence-transformers, which the project does not install. In an environment of its own:
    python tests/golden/make_convert_reference.py [MINILM_DIRECTORY]
With a directory of all-MiniLM-L6-v2, also makes tests/golden/minilm.json: ten sentences and their embeddings.
"""

import base64
import json
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.fakes.checkpoints import VOCAB_SIZE, weights, write_checkpoint

HERE = Path(__file__).resolve().parent
PROMPT = [65, 66, 258, 32, 104, 105, 260, 46, 90, 261, 100, 101]
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
KV = {"num_key_value_heads": 2, "bos_token_id": 317, "eos_token_id": 318, "pad_token_id": 319}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
LINEAR: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "num_hidden_layers": 4,
    "head_dim": 32,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
}
SECTIONS: dict[str, Any] = {**LINEAR["rope_parameters"], "mrope_section": [2, 1, 1]}
SHARED: dict[str, Any] = {"num_experts": 4, **MOE, "shared_expert_intermediate_size": 32}
LATENT = {
    "kv_lora_rank": 32,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.8,
    "num_key_value_heads": 4,
}
SHORT = {"conv_L_cache": 3, "num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}
GEMMA4: dict[str, Any] = {
    **KV,
    "head_dim": 16,
    "global_head_dim": 32,
    "num_hidden_layers": 8,
    "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2,
    "sliding_window": 8,
}
MAMBA: dict[str, Any] = {
    **KV,
    "head_dim": 16,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "n_groups": 2,
    "ssm_state_size": 16,
    "conv_kernel": 4,
    "num_hidden_layers": None,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**KV, "tie_word_embeddings": False}),
    "llama3": ("Llama", {**KV, "tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {**KV, "head_dim": 16, "sliding_window": None}),
    "mixtral": ("Mixtral", {**KV, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "ministral3": (
        "Ministral3",
        {
            **KV,
            "head_dim": 16,
            "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "qwen2": ("Qwen2", {**KV}),
    "qwen3": ("Qwen3", {**KV, "head_dim": 32}),
    "qwen3-moe": ("Qwen3Moe", {**KV, "head_dim": 32, "num_experts": 4, **MOE}),
    "qwen3-next": ("Qwen3Next", {**KV, **LINEAR, **SHARED}),
    "qwen3.5": ("Qwen3_5", {**KV, **LINEAR, "rope_parameters": SECTIONS}),
    "qwen3.5-moe": ("Qwen3_5Moe", {**KV, **LINEAR, **SHARED, "rope_parameters": SECTIONS}),
    "gemma2": ("Gemma2", {**KV, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8}),
    "gemma3": ("Gemma3", {**KV, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8}),
    "phi3": ("Phi3", {**KV, "sliding_window": None, "original_max_position_embeddings": 256}),
    "gpt-oss": (
        "GptOss",
        {
            **KV,
            "head_dim": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 8,
            "rope_parameters": {**YARN, "truncate": True},
        },
    ),
    "llama4": (
        "Llama4",
        {
            **KV,
            "head_dim": 32,
            "intermediate_size_mlp": 128,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "num_hidden_layers": 4,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 8192,
        },
    ),
    "olmo2": ("Olmo2", {**KV}),
    "olmo3": ("Olmo3", {**KV, "sliding_window": 8, "num_hidden_layers": 4}),
    "lfm2": ("Lfm2", {**KV, **SHORT, "block_multiple_of": 32}),
    "lfm2-moe": ("Lfm2Moe", {**KV, **SHORT, **MOE, "num_experts": 4, "num_dense_layers": 1}),
    "deepseek-v3": (
        "DeepseekV3",
        {**KV, **LATENT, **MOE, "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}},
    ),
    "glm4-moe-lite": ("Glm4MoeLite", {**KV, **LATENT, **MOE}),
    "glm4": ("Glm4", {**KV, "head_dim": 16, "partial_rotary_factor": 0.5}),
    "cohere": ("Cohere", {**KV, "logit_scale": 2.0}),
    "cohere2": ("Cohere2", {**KV, "num_hidden_layers": 4, "sliding_window": 8, "logit_scale": 2.0}),
    "gemma3n": (
        "Gemma3n",
        {
            **KV,
            "head_dim": 16,
            "num_hidden_layers": 5,
            "sliding_window": 8,
            "hidden_size_per_layer_input": 256,
            "vocab_size_per_layer_input": 300,
            "pad_token_id": 0,
            "num_kv_shared_layers": 0,
            "laurel_rank": 64,
            "activation_sparsity_pattern": [0.95] * 5,
        },
    ),
    "gemma4": (
        "Gemma4",
        {
            **GEMMA4,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": VOCAB_SIZE,
            "num_kv_shared_layers": 4,
            "use_double_wide_mlp": True,
        },
    ),
    "gemma4-moe": (
        "Gemma4",
        {
            **GEMMA4,
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
            "num_global_key_value_heads": 1,
            "attention_k_eq_v": True,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 48,
        },
    ),
    "nemotron-h": ("NemotronH", {**MAMBA, "layers_block_type": ["linear_attention", "full_attention", "mlp"]}),
    "nemotron-h-moe": (
        "NemotronH",
        {
            **MAMBA,
            **MOE,
            "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "moe_shared_expert_intermediate_size": 32,
            "routed_scaling_factor": 2.5,
        },
    ),
}
LOCAL = {"rope_type": "default", "rope_theta": 10000.0}
ALTERNATING = ["full_attention", "sliding_attention"] * 2
# The same classes with what configs vary in: the name before the dash is the family that the rest is taken from.
VARIANTS: dict[str, dict[str, Any]] = {
    "llama-attention-factor": {"rope_parameters": {**YARN, "attention_factor": 1.3}},
    "qwen2-mscale": {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.4}},
    "gemma2-layer-types": {"num_hidden_layers": 4, "layer_types": ALTERNATING},
    "gemma3-untied": {
        "tie_word_embeddings": False,
        "num_hidden_layers": 4,
        "layer_types": ALTERNATING,
        "rope_parameters": {"full_attention": {**YARN, "rope_type": "linear"}, "sliding_attention": LOCAL},
    },
    "gpt-oss-tied": {"tie_word_embeddings": True, "num_hidden_layers": 4, "layer_types": ALTERNATING},
    "olmo2-tied": {"tie_word_embeddings": True},
    "lfm2-moe-scaled": {"tie_word_embeddings": False, "use_expert_bias": False, "routed_scaling_factor": 2.0},
    "deepseek-v3-yarn": {"rope_parameters": YARN},
    "deepseek-v3-linear": {"rope_parameters": {**YARN, "rope_type": "linear"}, "first_k_dense_replace": 0},
    "cohere2-layer-types": {"layer_types": ALTERNATING},
    "qwen3-bare": {"rms_norm_eps": 1e-6},
    "gpt-oss-bare": {"rope_parameters": None},
}
# What is left out of their configs afterwards, where the class or the tensors tell it.
LEFT_OUT = {
    "qwen3-bare": ("head_dim", "num_key_value_heads", "rms_norm_eps", "rope_parameters", "tie_word_embeddings"),
    "gpt-oss-bare": ("head_dim", "num_key_value_heads", "rms_norm_eps", "rope_parameters", "layer_types"),
}
_TEXT_CONFIGS = {"Gemma3": "Gemma3TextConfig", "Qwen3_5": "Qwen3_5TextConfig", "Qwen3_5Moe": "Qwen3_5MoeTextConfig"}
_TEXT_CONFIGS |= {"Llama4": "Llama4TextConfig", "Gemma3n": "Gemma3nTextConfig", "Gemma4": "Gemma4TextConfig"}


def saved_shapes(model: Any) -> dict[str, list[int]]:
    """The tensors of a checkpoint as the class saves it: hub names, experts apart where the hub keeps them so."""
    shapes: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for path in sorted(Path(folder).glob("*.safetensors")):
            data = path.read_bytes()
            table = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
            shapes |= {name: entry["shape"] for name, entry in table.items() if name != "__metadata__"}
    return shapes


def fill(model: Any) -> dict[str, list[int]]:
    """Overwrite all weights with the seeded ones; returns the tensors' shapes."""
    shapes = {}
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in tied:
                parameter.copy_(torch.from_numpy(weights(name, parameter.shape)))
                shapes[name] = list(parameter.shape)
    return shapes


def decoder(kind: str, extra: dict[str, Any]) -> dict[str, Any]:
    """Config, shapes and log-probabilities after PROMPT of one decoder family."""
    config_class = getattr(transformers, _TEXT_CONFIGS.get(kind, f"{kind}Config"))
    settings = {key: value for key, value in {**SIZES, **extra}.items() if value is not None or key == "sliding_window"}
    config = config_class(**settings, attn_implementation="eager")
    model_class = getattr(transformers, f"{kind}ForCausalLM")
    shapes = saved_shapes(model_class(config).float())
    saved = json.loads(config.to_json_string(use_diff=False)) | {"architectures": [f"{kind}ForCausalLM"]}
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), saved, shapes)
        model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0, -1]
    logprobs = torch.log_softmax(logits.double(), -1)
    return {"config": saved, "shapes": shapes, "prompt": PROMPT, "logprobs": [round(float(x), 5) for x in logprobs]}


def bert() -> dict[str, Any]:
    """The same for BERT: the mean-pooled, normalised embedding of PROMPT."""
    config = transformers.BertConfig(**SIZES, type_vocab_size=2, attn_implementation="eager")
    model = transformers.BertModel(config, add_pooling_layer=False).float().eval()
    shapes = fill(model)
    with torch.no_grad():
        vector = model(torch.tensor([PROMPT])).last_hidden_state[0].mean(0)
    saved = json.loads(config.to_json_string(use_diff=False)) | {"architectures": ["BertModel"]}
    unit = (vector / vector.norm()).tolist()
    return {"config": saved, "shapes": shapes, "prompt": PROMPT, "embedding": [round(x, 6) for x in unit]}


RULES = {"\uff21": "A", "\ufb01": "fi", "\u2460": "1"}  # a full-width letter, a ligature, a circled digit
CORPUS = "the sky is blue and the harbour lies quiet in the morning while boats of the town wait for wind "
TEXTS = ["the sky is blue", "\uff21 harbour, \ufb01ne \u2460", "  boats   wait ", "xyz \u6f22 the", ""]


def unigram() -> dict[str, Any]:
    """A tokenizer.json as XLM-RoBERTa's: pieces with log probabilities, a compiled map of characters, a frame."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    with tempfile.TemporaryDirectory() as folder:
        rules = [f"{ord(old):X}\t{' '.join(f'{ord(c):X}' for c in new)}" for old, new in RULES.items()]
        (Path(folder) / "rules.tsv").write_text("\n".join(rules))
        (Path(folder) / "corpus.txt").write_text(
            "\n".join([CORPUS * 3, CORPUS.title(), *"abcdefghijklmnopqrstuvwxyz1,"])
        )
        sentencepiece.SentencePieceTrainer.train(
            input=f"{folder}/corpus.txt",
            model_prefix=f"{folder}/m",
            vocab_size=90,
            hard_vocab_limit=False,
            normalization_rule_tsv=f"{folder}/rules.tsv",
            minloglevel=2,
        )
        processor = sentencepiece.SentencePieceProcessor(f"{folder}/m.model")
        spec: Any = vars(sentencepiece_model_pb2)["ModelProto"]()
        spec.ParseFromString((Path(folder) / "m.model").read_bytes())
    pieces = [[processor.IdToPiece(i), round(processor.GetScore(i), 4)] for i in range(3, processor.GetPieceSize())]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    added = [
        {
            "id": i,
            "content": text,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for i, text in enumerate(special)
    ]
    ends = [{"SpecialToken": {"id": text, "type_id": 0}} for text in ("<s>", "</s>")]
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(spec.normalizer_spec.precompiled_charsmap).decode(),
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [ends[0], sequence, ends[1]],
            "pair": [ends[0], sequence, ends[1]],
            "special_tokens": {t: {"id": t, "ids": [special.index(t)], "tokens": [t]} for t in ("<s>", "</s>")},
        },
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [[text, 0.0] for text in special] + pieces},
    }


def xlmr() -> dict[str, Any]:
    """XLM-RoBERTa: the mean-pooled, normalised embedding of the first text, and the tokens of all."""
    import tokenizers

    tokenizer = unigram()
    reader = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    texts = [{"text": text, "ids": reader.encode(text).ids} for text in TEXTS]
    sizes = {**SIZES, "vocab_size": len(tokenizer["model"]["vocab"]), "pad_token_id": 1}
    config = transformers.XLMRobertaConfig(**sizes, type_vocab_size=1, attn_implementation="eager")
    model = transformers.XLMRobertaModel(config, add_pooling_layer=False).float().eval()
    shapes = fill(model)
    with torch.no_grad():
        vector = model(torch.tensor([texts[0]["ids"]])).last_hidden_state[0].mean(0)
    saved = json.loads(config.to_json_string(use_diff=False)) | {"architectures": ["XLMRobertaModel"]}
    unit = [round(x, 6) for x in (vector / vector.norm()).tolist()]
    return {"config": saved, "shapes": shapes, "tokenizer": tokenizer, "texts": texts, "embedding": unit}


NOMIC: dict[str, Any] = {
    "architectures": ["NomicBertModel"],
    "model_type": "nomic_bert",
    "vocab_size": VOCAB_SIZE,
    "n_embd": 64,
    "n_inner": 96,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 256,
    "max_trained_positions": 256,
    "rotary_emb_base": 1000,
    "layer_norm_epsilon": 1e-12,
    "type_vocab_size": 2,
    "activation_function": "swiglu",
}


def nomic(experts: int = 0) -> dict[str, Any]:
    """Nomic's BERT, whose code `transformers` does not ship: rotary positions, norms after each half.

    A gated MLP; or with `experts` a plain one with biases, and every second layer a mixture: a token uses two of them.
    """
    shapes = {f"embeddings.{n}_embeddings.weight": [k, 64] for n, k in (("word", VOCAB_SIZE), ("token_type", 2))}
    shapes |= {"emb_ln.weight": [64], "emb_ln.bias": [64]}
    for i in range(2):
        shapes |= _nomic_layer(f"encoder.layers.{i}.", experts, is_mixture=bool(experts) and i % 2 == 1)
    w = {name: torch.from_numpy(weights(name, shape)) for name, shape in shapes.items()}

    def norm(x: Any, name: str) -> Any:
        return torch.nn.functional.layer_norm(x, [64], w[name + ".weight"], w[name + ".bias"], 1e-12)

    count, half = len(PROMPT), 8
    angles = torch.outer(torch.arange(count).float(), 1000.0 ** (-torch.arange(half) / half))
    cos, sin = torch.cat([angles.cos()] * 2, 1), torch.cat([angles.sin()] * 2, 1)
    x = norm(w["embeddings.word_embeddings.weight"][PROMPT] + w["embeddings.token_type_embeddings.weight"][0], "emb_ln")
    for i in range(2):
        at = f"encoder.layers.{i}."
        qkv = x @ w[at + "attn.Wqkv.weight"].T + w.get(at + "attn.Wqkv.bias", 0)
        q, k, v = qkv.view(count, 3, 4, 16).permute(1, 2, 0, 3)
        q, k = (t * cos + torch.cat([-t[..., half:], t[..., :half]], -1) * sin for t in (q, k))
        mixed = (torch.softmax(q @ k.transpose(1, 2) / 4.0, -1) @ v).permute(1, 0, 2).reshape(count, 64)
        out = mixed @ w[at + "attn.out_proj.weight"].T + w.get(at + "attn.out_proj.bias", 0)
        x = norm(x + out, at + "norm1")
        x = norm(x + _nomic_mlp(x, w, at, experts), at + "norm2")
    vector = x.mean(0)
    unit = (vector / vector.norm()).tolist()
    mixture = {"moe_every_n_layers": 2, "num_experts": experts, "moe_top_k": 2, "activation_function": "gelu"}
    config = NOMIC | (mixture if experts else {})
    return {"config": config, "shapes": shapes, "prompt": PROMPT, "embedding": [round(x, 6) for x in unit]}


def _nomic_layer(at: str, experts: int, *, is_mixture: bool) -> dict[str, list[int]]:
    shapes = {at + "attn.Wqkv.weight": [192, 64], at + "attn.out_proj.weight": [64, 64]}
    shapes |= {f"{at}{norm}.{part}": [64] for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    if not experts:
        gated = {at + "mlp.fc11.weight": [96, 64], at + "mlp.fc12.weight": [96, 64], at + "mlp.fc2.weight": [64, 96]}
        return shapes | gated
    shapes |= {at + "attn.Wqkv.bias": [192], at + "attn.out_proj.bias": [64]}
    if is_mixture:
        stacks = {f"{at}mlp.experts.mlp.{name}": [experts * 96, 64] for name in ("w1", "w2")}
        return shapes | stacks | {at + "mlp.router.layer.weight": [experts, 64]}
    plain = {at + "mlp.fc1.weight": [96, 64], at + "mlp.fc2.weight": [64, 96]}
    return shapes | plain | {at + "mlp.fc1.bias": [96], at + "mlp.fc2.bias": [64]}


def _nomic_mlp(x: Any, w: dict[str, Any], at: str, experts: int) -> Any:
    if at + "mlp.fc12.weight" in w:
        gate = torch.nn.functional.silu(x @ w[at + "mlp.fc12.weight"].T)
        return (x @ w[at + "mlp.fc11.weight"].T * gate) @ w[at + "mlp.fc2.weight"].T
    gelu = torch.nn.functional.gelu
    if at + "mlp.fc1.weight" in w:
        inner = gelu(x @ w[at + "mlp.fc1.weight"].T + w[at + "mlp.fc1.bias"])
        return inner @ w[at + "mlp.fc2.weight"].T + w[at + "mlp.fc2.bias"]
    first, second = (w[f"{at}mlp.experts.mlp.{name}"].view(experts, 96, 64) for name in ("w1", "w2"))
    shares, chosen = torch.softmax(x @ w[at + "mlp.router.layer.weight"].T, -1).topk(2, dim=-1)
    every = torch.stack([gelu(x @ first[e].T) @ second[e] for e in range(experts)], dim=1)
    return sum(shares[:, n, None] * every[torch.arange(len(x)), chosen[:, n]] for n in range(2))


def lora(base: dict[str, Any]) -> dict[str, Any]:
    """A LoRA adapter on the llama of this file: log-probabilities with the products merged into the weights."""
    rank, alpha = 4, 16
    config = transformers.LlamaConfig(**SIZES, **FAMILIES["llama"][1], attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config).float().eval()
    fill(model)
    shapes: dict[str, list[int]] = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".self_attn." in name or ".down_proj." in name:
                stem = "base_model.model." + name.removesuffix(".weight")
                sides = {"lora_A": [rank, parameter.shape[1]], "lora_B": [parameter.shape[0], rank]}
                a, b = (torch.from_numpy(weights(f"{stem}.{side}.weight", shape)) for side, shape in sides.items())
                shapes |= {f"{stem}.{side}.weight": list(shape) for side, shape in sides.items()}
                parameter += alpha / rank * b @ a
        logits = model(torch.tensor([PROMPT])).logits[0, -1]
    logprobs = torch.log_softmax(logits.double(), -1)
    adapter = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha}
    rounded = [round(float(x), 5) for x in logprobs]
    return {
        "config": base["config"],
        "base_shapes": base["shapes"],
        "adapter": adapter,
        "shapes": shapes,
        "prompt": PROMPT,
        "logprobs": rounded,
    }


def variant(name: str) -> dict[str, Any]:
    """A family with other settings, without the keys that are to be left out."""
    base = max((family for family in FAMILIES if name.startswith(f"{family}-")), key=len)
    kind, settings = FAMILIES[base]
    made = decoder(kind, {**settings, **VARIANTS[name]})
    for key in LEFT_OUT.get(name, ()):
        del made["config"][key]
    return made


SENTENCES = [
    "Why is the sky blue?",
    "Kubernetes orchestrates containers across clusters.",
    "Docker containers package applications with dependencies.",
    "PostgreSQL is a relational database system.",
    "The quick brown fox jumps over the lazy dog.",
    "Ünïcödé, naïve café – and 漢字.",
    "a",
    "How do I deploy containerized applications?",
    "1234567890 3.14159 -42",
    'He said: "it\'s done!" (and left…)',
]


def main() -> None:
    """Write the reference files."""
    reference = {name: decoder(*family) for name, family in FAMILIES.items()}
    reference |= {name: variant(name) for name in VARIANTS} | {"bert": bert(), "nomic-bert": nomic()}
    reference |= {"nomic-bert-moe": nomic(experts=4), "xlm-roberta": xlmr()}
    reference["lora"] = lora(reference["llama"])
    (HERE / "convert.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")
    if len(sys.argv) > 1:
        from sentence_transformers import SentenceTransformer

        vectors = SentenceTransformer(sys.argv[1], device="cpu").encode(SENTENCES, normalize_embeddings=True)
        rows = [[round(float(x), 6) for x in row] for row in vectors]
        text = json.dumps({"sentences": SENTENCES, "embeddings": rows}, ensure_ascii=False)
        (HERE / "minilm.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
