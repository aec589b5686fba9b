# SPDX-License-Identifier: Apache-2.0
"""Logits of a loaded OpenVLA checkpoint are those of the architecture written down plainly, tensor by tensor.

The plain one follows timm's vision transformers and Llama's paper, shares no code with the package and knows neither a
cache nor fused kernels. transformers' own DINOv2 and SigLIP are a second opinion on the towers.
"""

import math
import shutil

import numpy as np
import pytest
import torch
from openvla_checkpoint import DINO, GOLDEN, PATCH, SIGLIP, SIZE, TEXT
from safetensors.torch import load_file, save_file

from vla_sd_ros import policy
from vla_sd_ros.policy.draft import chain, merge

INSTRUCTION, IDS = next(iter(GOLDEN.items()))
STAND = policy.ImageSettings(jpeg=False)
IMAGE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
NORMALISATION = {  # bfloat16 of ImageNet's for DINOv2
    "featurizer": ((0.484375, 0.455078125, 0.40625), (0.228515625, 0.2236328125, 0.224609375)),
    "fused_featurizer": ((0.5,) * 3, (0.5,) * 3),
}


def linear(tensors, name, x):
    bias = tensors.get(f"{name}.bias")
    return x @ tensors[f"{name}.weight"].T + (0 if bias is None else bias)


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def layer_norm(tensors, name, x):
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-6)
    return normal * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def rms_norm(tensors, name, x):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * tensors[f"{name}.weight"]


def attention(query, key, value, heads, causal):
    """(n, width) each."""
    count, width = query.shape
    query, key, value = (x.view(count, heads, width // heads).transpose(0, 1) for x in (query, key, value))
    scores = query @ key.transpose(1, 2) / math.sqrt(width // heads)
    if causal:
        scores = scores.masked_fill(torch.triu(torch.ones(count, count, dtype=torch.bool), 1), -math.inf)
    return (scores.softmax(-1) @ value).transpose(0, 1).reshape(count, width)


def tower(tensors, name, image, depth, heads, prefix=0, layer_scale=False, **_):
    """Features of the second last block, prefix dropped."""
    tensors = {key.removeprefix(f"vision_backbone.{name}."): value for key, value in tensors.items()}
    mean, std = (torch.tensor(x) for x in NORMALISATION[name])
    pixels = (torch.from_numpy(image).float() / 255 - mean) / std
    side = SIZE // PATCH
    patches = pixels.view(side, PATCH, side, PATCH, 3).permute(0, 2, 4, 1, 3).reshape(side * side, -1)
    x = patches @ tensors["patch_embed.proj.weight"].flatten(1).T + tensors["patch_embed.proj.bias"]
    x = x + tensors["pos_embed"][0]
    if prefix:
        x = torch.cat((tensors["cls_token"][0], tensors["reg_token"][0], x))
    for i in range(depth - 1):
        block = f"blocks.{i}."
        scale1, scale2 = (tensors[f"{block}ls{j}.scale_factor"] if layer_scale else 1.0 for j in (1, 2))
        qkv = linear(tensors, f"{block}attn.qkv", layer_norm(tensors, f"{block}norm1", x)).chunk(3, dim=-1)
        x = x + scale1 * linear(tensors, f"{block}attn.proj", attention(*qkv, heads, causal=False))
        hidden = gelu(linear(tensors, f"{block}mlp.fc1", layer_norm(tensors, f"{block}norm2", x)))
        x = x + scale2 * linear(tensors, f"{block}mlp.fc2", hidden)
    return x[prefix:]


def rotary(x, heads):
    """Pairs (i, i + d/2) of each head turn by position / 10000^(2i/d)."""
    count, width = x.shape
    size = width // heads
    angles = torch.arange(count)[:, None, None] / 10000.0 ** (torch.arange(0, size, 2) / size)
    real, imaginary = x.view(count, heads, 2, size // 2).unbind(2)
    turned = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1).reshape(count, width)


def plain_logits(tensors, image, ids):
    """Logits (n, vocabulary) at all positions of BOS, image, rest of the ids."""
    features = torch.cat((tower(tensors, "featurizer", image, **DINO), tower(tensors, "fused_featurizer", image, **SIGLIP)), dim=-1)
    hidden = gelu(linear(tensors, "projector.fc1", features))
    image_tokens = linear(tensors, "projector.fc3", gelu(linear(tensors, "projector.fc2", hidden)))
    text = tensors["language_model.model.embed_tokens.weight"][torch.tensor(ids)]
    x, heads = torch.cat((text[:1], image_tokens, text[1:])), TEXT["num_attention_heads"]
    for i in range(TEXT["num_hidden_layers"]):
        layer = f"language_model.model.layers.{i}."
        h = rms_norm(tensors, f"{layer}input_layernorm", x)
        query, key, value = (linear(tensors, f"{layer}self_attn.{name}_proj", h) for name in "qkv")
        attended = attention(rotary(query, heads), rotary(key, heads), value, heads, causal=True)
        x = x + linear(tensors, f"{layer}self_attn.o_proj", attended)
        h = rms_norm(tensors, f"{layer}post_attention_layernorm", x)
        gate = linear(tensors, f"{layer}mlp.gate_proj", h)
        up = linear(tensors, f"{layer}mlp.up_proj", h)
        x = x + linear(tensors, f"{layer}mlp.down_proj", gate * torch.sigmoid(gate) * up)
    return rms_norm(tensors, "language_model.model.norm", x) @ tensors["language_model.lm_head.weight"].T


def action_logits(logits):
    """Those of the action tokens 31744..31999 in the order of the bins: id = 31999 - bin."""
    return logits[..., 31744:32000].flip(-1)


@pytest.fixture(scope="module")
def vla(openvla_directory):
    return policy.load(openvla_directory, images=STAND)


def test_logits_at_the_end_of_the_prompt(vla, openvla_tensors):
    expected = action_logits(plain_logits(openvla_tensors, IMAGE, IDS))[-1]
    assert expected.std() > 0.1
    given = vla.prefill(vla.observe(IMAGE, INSTRUCTION)).logits[0]
    assert torch.allclose(given, expected, atol=1e-4)


def test_logits_of_the_further_tokens_in_one_pass_one_by_one_and_as_a_tree(vla, openvla_tensors):
    bins = [0, 255, 128, 7, 200, 64]
    ids = IDS + [31999 - b for b in bins]
    expected = action_logits(plain_logits(openvla_tensors, IMAGE, ids))[-7:]
    prompt = vla.observe(IMAGE, INSTRUCTION)
    assert torch.allclose(vla.prefill(prompt, chain(bins)).logits, expected, atol=1e-4)
    rows = [vla.prefill(prompt).logits]
    for b in bins:
        rows.append(vla.extend(chain([b])).logits)
        vla.keep([0])
    assert torch.allclose(torch.cat(rows), expected, atol=1e-4)
    other = vla.prefill(prompt, merge(np.array([[9] * 6, bins]))).logits
    assert torch.allclose(other[[0, 7, 8, 9, 10, 11, 12]], expected, atol=1e-4)


def test_the_whole_vocabulary_agrees_so_no_row_is_shifted(vla, openvla_tensors):
    hidden = vla.prefill(vla.observe(IMAGE, INSTRUCTION)).hidden[0]
    expected = plain_logits(openvla_tensors, IMAGE, IDS)[-1]
    assert torch.allclose(openvla_tensors["language_model.lm_head.weight"] @ hidden, expected, atol=1e-4)


@pytest.mark.parametrize("name, depth", [("featurizer", DINO["depth"]), ("fused_featurizer", SIGLIP["depth"])])
def test_the_last_block_but_one_is_the_last_that_matters(vla, openvla_directory, tmp_path, name, depth):
    before = vla.prefill(vla.observe(IMAGE, INSTRUCTION)).logits
    for block, same in ((depth - 1, True), (depth - 2, False)):
        directory = shutil.copytree(openvla_directory, tmp_path / f"{name}{block}")
        tensor = f"vision_backbone.{name}.blocks.{block}.mlp.fc2.bias"
        for shard in directory.glob("*.safetensors"):
            tensors = load_file(shard)
            if tensor in tensors:
                save_file(tensors | {tensor: tensors[tensor] + 1}, shard)
        changed = policy.load(directory, images=STAND)
        after = changed.prefill(changed.observe(IMAGE, INSTRUCTION)).logits
        assert torch.allclose(before, after, atol=1e-5) == same


def test_the_towers_are_those_of_transformers(vla, openvla_tensors):
    """timm's checkpoints of these towers were converted to transformers by renaming; so are these tensors."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, SiglipVisionConfig, SiglipVisionModel

    def part(name, renames):
        prefix, result = f"vision_backbone.{name}.", {}
        for key, value in openvla_tensors.items():
            if key.startswith(prefix):
                key = key.removeprefix(prefix)
                for old, new in renames.items():
                    key = key.replace(old, new)
                names = [key.replace("qkv", x) for x in "qkv"] if "qkv" in key else [key]
                result |= dict(zip(names, value.chunk(len(names))))
        return result

    dino = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=48,
            mlp_ratio=1,
            image_size=SIZE,
            patch_size=PATCH,
        )
    )
    if "encoder.layer.0.attention.q_proj.weight" not in dino.state_dict():
        pytest.skip("this version of transformers names the parts of DINOv2 differently")
    for layer in dino.encoder.layer:  # transformers' ratio of widths is an integer
        layer.mlp.fc1, layer.mlp.fc2 = torch.nn.Linear(32, 48), torch.nn.Linear(48, 32)
    weights = part(
        "featurizer",
        {
            "patch_embed.proj": "embeddings.patch_embeddings.projection",
            "cls_token": "embeddings.cls_token",
            "reg_token": "embeddings.register_tokens",
            "blocks.": "encoder.layer.",
            "attn.qkv": "attention.qkv_proj",
            "attn.proj": "attention.o_proj",
            "ls1.scale_factor": "layer_scale1.lambda1",
            "ls2.scale_factor": "layer_scale2.lambda1",
        },
    )
    position = weights.pop("pos_embed")  # timm's class token has no position
    weights["embeddings.position_embeddings"] = torch.cat((torch.zeros(1, 1, 32), position), dim=1)
    missing = dino.load_state_dict(weights, strict=False).missing_keys
    assert missing == ["embeddings.mask_token", "layernorm.weight", "layernorm.bias"]
    dino.layernorm = torch.nn.Identity()

    siglip = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=24,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=40,
            image_size=SIZE,
            patch_size=PATCH,
            hidden_act="gelu",
            vision_use_head=False,
        )
    )
    weights = part(
        "fused_featurizer",
        {
            "patch_embed.proj": "embeddings.patch_embedding",
            "blocks.": "encoder.layers.",
            "attn.qkv": "self_attn.qkv_proj",
            "attn.proj": "self_attn.out_proj",
            "norm1": "layer_norm1",
            "norm2": "layer_norm2",
        },
    )
    weights["embeddings.position_embedding.weight"] = weights.pop("pos_embed")[0]
    assert siglip.load_state_dict(weights, strict=False).missing_keys == ["post_layernorm.weight", "post_layernorm.bias"]
    siglip.post_layernorm = torch.nn.Identity()

    pixels = torch.randn(2, 6, SIZE, SIZE)
    with torch.inference_mode():
        expected = torch.cat(
            (dino.eval()(pixels[:, :3]).last_hidden_state[:, 5:], siglip.eval()(pixels[:, 3:]).last_hidden_state), dim=-1
        )
        given = vla._model.vision_backbone(pixels)
    assert torch.allclose(given, expected, atol=1e-4)
