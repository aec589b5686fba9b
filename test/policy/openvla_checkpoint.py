# SPDX-License-Identifier: Apache-2.0
"""A small OpenVLA checkpoint, written by the layout that published ones have and without any code of the loader."""

import json
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, processors

# fmt: off
GOLDEN = {
    "pick up the black bowl between the plate and the ramekin and place it on the plate": [
        1, 512, 29901, 1724, 3158, 881, 278, 19964, 2125, 304, 5839, 701, 278, 4628, 12580, 29880, 1546, 278, 15284, 322, 278,
        364, 420, 9089, 322, 2058, 372, 373, 278, 15284, 29973, 13, 3744, 29901, 29871],
    "put both the alphabet soup and the tomato sauce in the basket": [
        1, 512, 29901, 1724, 3158, 881, 278, 19964, 2125, 304, 1925, 1716, 278, 22968, 22300, 322, 278, 6454, 1219, 12507, 346,
        297, 278, 25972, 29973, 13, 3744, 29901, 29871],
}
# Llama-2's pieces that these prompts need; ▁ is the space before a word
PIECES = {
    "▁In": 512, "▁What": 1724, "▁action": 3158, "▁should": 881, "▁the": 278, "▁robot": 19964, "▁take": 2125, "▁to": 304,
    "▁pick": 5839, "▁up": 701, "▁black": 4628, "▁bow": 12580, "▁between": 1546, "▁plate": 15284, "▁and": 322, "▁r": 364,
    "▁place": 2058, "▁it": 372, "▁on": 373, "▁put": 1925, "▁both": 1716, "▁alphabet": 22968, "▁soup": 22300, "▁tom": 6454,
    "▁sau": 12507, "▁in": 297, "▁basket": 25972, "ame": 420, "kin": 9089, "ato": 1219, "ce": 346, "Out": 3744,
    ":": 29901, "?": 29973, "l": 29880, "▁": 29871,
}
Q01 = [-0.0287273, -0.0417035, -0.0260939, -0.0809211, -0.0928870, -0.2071828, 0.0]  # bridge_orig
Q99 = [0.0283097, 0.0408553, 0.0401616, 0.0819205, 0.0779285, 0.2038257, 1.0]
BRIDGE = {"action": {"q01": Q01, "q99": Q99, "mask": [True] * 6 + [False], "mean": [0.0] * 7}, "num_transitions": 2}
DINO = {"width": 32, "depth": 4, "heads": 4, "mlp_width": 48, "prefix": 5, "layer_scale": True}
SIGLIP = {"width": 24, "depth": 5, "heads": 2, "mlp_width": 40}
TEXT = {
    "model_type": "llama", "vocab_size": 32064, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3,
    "num_attention_heads": 4, "pad_token_id": 32000, "torch_dtype": "bfloat16",
}
SIZE, PATCH = 28, 7
CONFIG = {
    "model_type": "openvla", "arch_specifier": "no-align+fused-gelu-mlp", "vision_backbone_id": "dinosiglip-vit-so-224px",
    "llm_backbone_id": "llama2-7b-pure", "use_fused_vision_backbone": True, "image_resize_strategy": "resize-naive",
    "pad_token_id": 32000, "pad_to_multiple_of": 64, "n_action_bins": 256, "norm_stats": {"bridge_orig": BRIDGE},
    "text_config": TEXT,
    "vision_config": {"image_size": SIZE, "patch_size": PATCH, "featurizer": DINO, "fused_featurizer": SIGLIP},
}
# fmt: on


def tower_shapes(width, depth, mlp_width, **_) -> dict:
    """What both of timm's towers have."""
    shapes = {
        "pos_embed": (1, (SIZE // PATCH) ** 2, width),
        "patch_embed.proj.weight": (width, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        for name, shape in {
            "norm1": (width,),
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "norm2": (width,),
            "mlp.fc1": (mlp_width, width),
            "mlp.fc2": (width, mlp_width),
        }.items():
            shapes[f"blocks.{i}.{name}.weight"], shapes[f"blocks.{i}.{name}.bias"] = shape, shape[:1]
    return shapes


def shapes(text: dict = TEXT) -> dict:
    """Every tensor of a checkpoint and its shape."""
    dino, siglip = tower_shapes(**DINO), tower_shapes(**SIGLIP)
    width = DINO["width"]
    dino |= {"cls_token": (1, 1, width), "reg_token": (1, 4, width)}
    dino |= {f"blocks.{i}.ls{j}.scale_factor": (width,) for i in range(DINO["depth"]) for j in (1, 2)}
    width, hidden = SIGLIP["width"], SIGLIP["mlp_width"]
    siglip["attn_pool.latent"] = (1, 1, width)
    for name, shape in {
        "q": (width, width),
        "kv": (2 * width, width),
        "proj": (width, width),
        "norm": (width,),
        "mlp.fc1": (hidden, width),
        "mlp.fc2": (width, hidden),
    }.items():
        siglip[f"attn_pool.{name}.weight"], siglip[f"attn_pool.{name}.bias"] = shape, shape[:1]
    features, size = DINO["width"] + SIGLIP["width"], text["hidden_size"]
    result = {f"vision_backbone.featurizer.{name}": shape for name, shape in dino.items()}
    result |= {f"vision_backbone.fused_featurizer.{name}": shape for name, shape in siglip.items()}
    for name, shape in {"fc1": (4 * features, features), "fc2": (size, 4 * features), "fc3": (size, size)}.items():
        result[f"projector.{name}.weight"], result[f"projector.{name}.bias"] = shape, shape[:1]
    llama = "language_model.model."
    result |= {f"{llama}embed_tokens.weight": (text["vocab_size"], size), f"{llama}norm.weight": (size,)}
    for i in range(text["num_hidden_layers"]):
        layer = f"{llama}layers.{i}."
        result |= {f"{layer}self_attn.{x}_proj.weight": (size, size) for x in "qkvo"}
        result |= {f"{layer}mlp.{x}_proj.weight": (text["intermediate_size"], size) for x in ("gate", "up")}
        result[f"{layer}mlp.down_proj.weight"] = (size, text["intermediate_size"])
        result |= {f"{layer}{x}_layernorm.weight": (size,) for x in ("input", "post_attention")}
    result["language_model.lm_head.weight"] = (text["vocab_size"], size)
    return result


def random_tensors(shapes: dict, dtype=torch.float32, seed: int = 0) -> dict:
    """Large enough that every part makes a difference to the logits."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "layernorm.weight", "scale_factor")):
            value = 1 + 0.3 * noise
        elif len(shape) > 1 and "embed" not in name and "token" not in name:
            value = noise * prod(shape[1:]) ** -0.5
        else:
            value = 0.3 * noise
        tensors[name] = value.to(dtype)
    return tensors


def write(directory: Path, tensors: dict, config: dict = CONFIG, shards: int = 3) -> None:
    """As save_pretrained does it: numbered shards and an index; with one shard a single file."""
    directory.mkdir(parents=True, exist_ok=True)
    names = list(tensors)
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    else:
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": {}}
        for i in range(shards):
            file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
            part = names[i * len(names) // shards : (i + 1) * len(names) // shards]
            save_file({name: tensors[name] for name in part}, directory / file, metadata={"format": "pt"})
            index["weight_map"] |= dict.fromkeys(part, file)
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(config))
    llama2_tokenizer().save(str(directory / "tokenizer.json"))


def llama2_tokenizer() -> Tokenizer:
    """Llama-2's kind of tokenizer, byte pair encoding with bytes to fall back on, with the pieces above at their ids."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)} | PIECES
    merges = []
    for piece in PIECES:
        for end in range(1, len(piece)):  # from left to right; pieces within words come last, so words win
            merge = piece[:end], piece[end]
            if merge not in merges:
                merges.append(merge)
            for part in (*merge, piece[: end + 1]):
                vocabulary.setdefault(part, 30000 + len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer
