# SPDX-License-Identifier: Apache-2.0
"""A published checkpoint loads; one that is damaged or something else is refused with a sentence that names the fault."""

import json
import shutil

import numpy as np
import pytest
import torch
from openvla_checkpoint import BRIDGE, CONFIG, DINO, SIGLIP, SIZE, TEXT, shapes, write
from safetensors.torch import load_file, save_file

from vla_sd_ros import policy
from vla_sd_ros.decoding import factory
from vla_sd_ros.policy import weights
from vla_sd_ros.policy.config import read_config
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.self_test import self_test

SHARDS = [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
IMAGE = np.random.default_rng(1).integers(0, 256, (120, 160, 3)).astype(np.uint8)


@pytest.fixture
def checkpoint(openvla_directory, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(openvla_directory, tmp_path / "damaged")


def refusal(checkpoint, **arguments) -> str:
    """The sentence with which loading fails."""
    with pytest.raises(policy.CheckpointError) as error:
        policy.load(checkpoint, **arguments)
    sentence = str(error.value)
    assert "\n" not in sentence and str(checkpoint) in sentence
    return sentence


def change(checkpoint, edit) -> None:
    """edit(tensors) on the tensors of each shard; tensors that come or go do so in the index too."""
    index = json.loads((checkpoint / weights.INDEX).read_text())
    for shard in SHARDS:
        tensors = load_file(checkpoint / shard)
        edit(tensors)
        save_file(tensors, checkpoint / shard)
        index["weight_map"] = {k: v for k, v in index["weight_map"].items() if v != shard} | dict.fromkeys(tensors, shard)
    (checkpoint / weights.INDEX).write_text(json.dumps(index))


def configure(checkpoint, **fields) -> None:
    (checkpoint / "config.json").write_text(json.dumps(CONFIG | fields))


def decide(vla) -> list[int]:
    return factory.make("autoregressive", vla).decide(IMAGE, "put the soup on the plate").bins.tolist()


def test_the_published_layout_has_982_tensors_of_which_43_are_not_used(tmp_path):
    published = {name: value for name, value in CONFIG.items() if name != "vision_config"}
    published["text_config"] = {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", "vocab_size": 32064}
    (tmp_path / "config.json").write_text(json.dumps(published))
    config = read_config(tmp_path / "config.json")
    with torch.device("meta"):
        model = VlaModel(config)
    used = model.state_dict()
    assert len(used) + len(model.unused()) == 982 and len(model.unused()) == 43
    # the published size is 7.54 billion, with 43 million in the 43
    assert sum(value.numel() for value in used.values()) == pytest.approx(7.50e9, rel=0.001)
    assert (config.text.rms_norm_eps, config.text.rope_theta, config.action_end) == (1e-6, 10000.0, 32000)


def test_every_name_of_the_layout_is_used_or_known_to_be_unused(openvla_directory):
    with torch.device("meta"):
        model = VlaModel(read_config(openvla_directory / "config.json"))
    assert model.state_dict().keys() | model.unused() == shapes().keys()


def test_shards_and_a_single_file_give_the_same_policy(openvla_directory, openvla_tensors, tmp_path):
    write(tmp_path / "single", openvla_tensors, shards=1)
    bins = decide(policy.load(tmp_path / "single"))
    assert bins == decide(policy.load(openvla_directory)) and len(set(bins)) > 1


def test_weights_run_in_the_type_they_are_stored_in_or_as_asked_for(openvla_directory, openvla_tensors, tmp_path):
    write(tmp_path / "half", {name: value.bfloat16() for name, value in openvla_tensors.items()})
    assert "bfloat16" in self_test(policy.load(tmp_path / "half"))
    assert "float32" in self_test(policy.load(openvla_directory))
    vla = policy.load(tmp_path / "half", dtype="float32")
    assert "float32" in self_test(vla)
    # the frequencies are single precision whatever the weights are
    rotary = policy.load(tmp_path / "half")._model.language_model.model.rotary_emb.inv_freq
    assert rotary.dtype == torch.float32
    assert torch.equal(rotary, 10000.0 ** -(torch.arange(0, 8, 2).float() / 8))
    assert "'int4'" in refusal(tmp_path / "half", dtype="int4")


def test_the_unused_tensors_may_have_been_stripped(checkpoint):
    last = f"fused_featurizer.blocks.{SIGLIP['depth'] - 1}."
    unused = [name for name in shapes() if ".attn_pool." in name or last in name]
    before = decide(policy.load(checkpoint))
    change(checkpoint, lambda tensors: [tensors.pop(name, None) for name in unused])
    assert decide(policy.load(checkpoint)) == before


@pytest.mark.parametrize(
    "name",
    [
        f"vision_backbone.featurizer.blocks.{DINO['depth'] - 2}.ls2.scale_factor",
        "vision_backbone.fused_featurizer.pos_embed",
        "projector.fc3.bias",
        "language_model.model.layers.2.mlp.up_proj.weight",
        "language_model.lm_head.weight",
    ],
)
def test_a_missing_tensor_is_named(checkpoint, name):
    change(checkpoint, lambda tensors: tensors.pop(name, None))
    assert f"lacks tensor {name} (1 in all)" in refusal(checkpoint)


@pytest.mark.parametrize(
    "name", ["language_model.model.layers.3.input_layernorm.weight", "vision_backbone.featurizer.blocks.3.extra", "action_queries"]
)
def test_an_unknown_tensor_is_named(checkpoint, name):
    change(checkpoint, lambda tensors: "projector.fc1.bias" in tensors and tensors.update({name: torch.zeros(2)}))
    assert f"has an unknown tensor {name} (1 in all)" in refusal(checkpoint)


def test_a_renamed_tensor_is_named(checkpoint):
    old = "vision_backbone.featurizer.blocks.0.ls1.scale_factor"

    def rename(tensors):
        if old in tensors:
            tensors[old.replace("scale_factor", "gamma")] = tensors.pop(old)

    change(checkpoint, rename)
    assert f"lacks tensor {old}" in refusal(checkpoint)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("vision_backbone.featurizer.pos_embed", (1, 17, 32)),
        ("projector.fc1.weight", (224, 55)),
        ("language_model.model.embed_tokens.weight", (32000, 32)),
    ],
)
def test_a_misshapen_tensor_is_named_with_both_shapes(checkpoint, name, shape):
    change(checkpoint, lambda tensors: name in tensors and tensors.update({name: torch.zeros(shape)}))
    sentence = refusal(checkpoint)
    assert f"tensor {name} has shape {shape}, but config.json asks for {shapes()[name]}" in sentence


def test_a_missing_shard_is_named(checkpoint):
    (checkpoint / SHARDS[1]).unlink()
    assert f"names {SHARDS[1]}, which is not there (1 of 3 files)" in refusal(checkpoint)


@pytest.mark.parametrize("keep", [0.9, 0.01, 0.0])
def test_a_truncated_shard_is_named(checkpoint, keep):
    path = checkpoint / SHARDS[2]
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert f"{SHARDS[2]} cannot be read, copy it again" in refusal(checkpoint)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_is_named(checkpoint, text):
    (checkpoint / weights.INDEX).write_text(text)
    assert weights.INDEX in refusal(checkpoint)


def test_an_index_and_its_files_must_agree(checkpoint):
    path = checkpoint / weights.INDEX
    index = json.loads(path.read_text())
    name = "projector.fc2.bias"
    home = index["weight_map"][name]
    index["weight_map"][name] = next(shard for shard in SHARDS if shard != home)
    path.write_text(json.dumps(index))
    assert f"{home} has tensor {name}, which {weights.INDEX} does not place there" in refusal(checkpoint)
    index["weight_map"][name] = home
    index["weight_map"]["ghost"] = home
    path.write_text(json.dumps(index))
    assert f"{home} lacks tensor ghost" in refusal(checkpoint)


def test_a_directory_without_weights_says_so(checkpoint):
    (checkpoint / weights.INDEX).unlink()
    assert "no model.safetensors and no model.safetensors.index.json" in refusal(checkpoint)


def test_quantised_weights_are_refused(checkpoint):
    name = "projector.fc3.weight"
    change(checkpoint, lambda tensors: name in tensors and tensors.update({name: tensors[name].to(torch.int8)}))
    sentence = refusal(checkpoint)
    assert name in sentence and "unquantised" in sentence
    configure(checkpoint, quantization_config={"load_in_4bit": True})
    assert "quantization_config" in refusal(checkpoint)


@pytest.mark.parametrize(
    "field, value, says",
    [
        ("vision_backbone_id", "siglip-vit-so400m", "SigLIP-only"),
        ("vision_backbone_id", "dinosiglip-vit-so-384px", "224px"),
        ("vision_backbone_id", None, "dinosiglip"),
        ("llm_backbone_id", "vicuna-v15-7b", "llama2-7b-pure"),
        ("llm_backbone_id", "mistral-v0.1-7b-pure", "llama2-7b-pure"),
        ("arch_specifier", "no-align+gelu-mlp", "fused-gelu"),
        ("image_resize_strategy", "letterbox", "resize-naive"),
        ("n_action_bins", 128, "256"),
        ("model_type", "prismatic", "openvla"),
        ("text_config", TEXT | {"model_type": "mistral"}, "llama"),
        ("text_config", TEXT | {"num_key_value_heads": 2}, "num_key_value_heads"),
        ("text_config", TEXT | {"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
    ],
)
def test_other_variants_are_refused_by_name(checkpoint, field, value, says):
    configure(checkpoint, **{field: value})
    sentence = refusal(checkpoint)
    assert says in sentence and (field in sentence or field == "text_config") and "config.json" in sentence


@pytest.mark.parametrize(
    "file, says",
    [
        ("action_head--150000_checkpoint.pt", "OpenVLA-OFT"),
        ("proprio_projector--150000_checkpoint.pt", "OpenVLA-OFT"),
        ("adapter_model.safetensors", "LoRA"),
    ],
)
def test_checkpoints_with_parts_of_something_else_are_refused(checkpoint, file, says):
    (checkpoint / file).write_bytes(b"")
    sentence = refusal(checkpoint)
    assert file in sentence and says in sentence


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_or_truncated_file_is_named(checkpoint, name):
    text = (checkpoint / name).read_text()
    (checkpoint / name).write_text(text[: len(text) // 2])
    assert f"{name} cannot be read" in refusal(checkpoint)
    (checkpoint / name).unlink()
    assert f"has no {name}" in refusal(checkpoint)


def test_sizes_that_config_json_has_but_does_not_spell_right_are_named(checkpoint):
    configure(checkpoint, vision_config=CONFIG["vision_config"] | {"image_siz": 28})
    assert "image_siz" in refusal(checkpoint)


def test_another_tokenizer_is_refused(checkpoint, tmp_path):
    policy.write_random(tmp_path / "embedded")
    shutil.copy(tmp_path / "embedded" / "tokenizer.json", checkpoint)
    assert "tokenizer.json is not Llama-2's" in refusal(checkpoint)


def test_statistics_beside_the_weights_come_before_those_in_the_config(checkpoint):
    assert policy.load(checkpoint).statistics.q99[0] == BRIDGE["action"]["q99"][0]
    own = {"action": BRIDGE["action"] | {"q99": [0.2] * 7}}
    path = checkpoint / "dataset_statistics.json"
    path.write_text(json.dumps({"libero_goal_no_noops": own, "other": own}))
    vla = policy.load(checkpoint, unnorm_key="libero_goal")
    assert vla.statistics.q99[0] == 0.2 and vla.images == policy.ImageSettings(centre_crop=True, mirror=True)
    (checkpoint / "image_settings.json").write_text('{"other": {"rotate_180": true}}')
    assert policy.load(checkpoint, unnorm_key="other").images == policy.ImageSettings(rotate_180=True)
    (checkpoint / "image_settings.json").write_text('{"other": {"rotate": true}}')
    assert "image_settings.json cannot be read: other must be an object" in refusal(checkpoint, unnorm_key="other")
    (checkpoint / "image_settings.json").unlink()
    assert "libero_goal_no_noops, other" in refusal(checkpoint, unnorm_key="bridge_orig")
    path.write_text(json.dumps({"mine": {"action": {"q01": [0.0] * 7, "q99": [float("inf")] * 7}}}))
    assert "q01 or q99 under 'mine' is not finite" in refusal(checkpoint)
    path.unlink()
    configure(checkpoint, norm_stats={})
    assert "neither a dataset_statistics.json nor norm_stats" in refusal(checkpoint)


def test_a_device_that_is_not_there_is_named(openvla_directory):
    absent = f"cuda:{torch.cuda.device_count()}"
    assert absent in refusal(openvla_directory, device=absent)
    assert "'gpu'" in refusal(openvla_directory, device="gpu")


def test_too_little_memory_is_told_before_anything_is_loaded(openvla_directory, monkeypatch):
    monkeypatch.setattr(weights, "available_memory", lambda device: 5_000_000)
    monkeypatch.setattr(weights, "fill", lambda *_: pytest.fail("it loads"))
    sentence = refusal(openvla_directory)
    assert "it needs 0.0 GB in float32, but cpu has 0.0 GB free" in sentence and "on a GPU with 8 GB in bfloat16" in sentence
    monkeypatch.setattr(weights, "available_memory", lambda device: 12_000_000_000)
    sentence = refusal("random-7b")
    assert "it needs 16.0 GB in bfloat16, but cpu has 12.0 GB free: it would fit here in bfloat16 with" in sentence
    assert "quantization int8" in sentence and "on a GPU with 24 GB in bfloat16" in sentence
    assert "it needs 32.1 GB in float32" in refusal("random-7b", dtype="float32")


def test_a_policy_that_ignores_the_image_fails_its_self_test(checkpoint):
    for name in ("projector.fc3.weight", "projector.fc3.bias"):
        change(checkpoint, lambda tensors: name in tensors and tensors[name].zero_())
    with pytest.raises(policy.CheckpointError, match="ignores the image"):
        self_test(policy.load(checkpoint))


def test_statistics_that_turn_actions_around_are_refused(checkpoint):
    q01, q99 = list(BRIDGE["action"]["q01"]), list(BRIDGE["action"]["q99"])
    q01[2], q99[2] = q99[2], q01[2]
    own = {"action": BRIDGE["action"] | {"q01": q01, "q99": q99}}
    (checkpoint / "dataset_statistics.json").write_text(json.dumps({"mine": own}))
    assert "q01 under 'mine' lies above q99 in z" in refusal(checkpoint)


def test_the_self_test_says_what_was_loaded_and_whether_actions_lead(openvla_directory, openvla_tensors, tmp_path):
    line = self_test(policy.load(openvla_directory))
    for part in ("small: ", "float32", "MB on cpu", "ms an action", "self-test passed"):
        assert part in line
    assert "no action, is likelier" in line  # random weights
    trained = dict(openvla_tensors)
    head = trained["language_model.lm_head.weight"].clone()
    head[:31744] = head[32000:] = 0.0
    write(tmp_path / "trained", trained | {"language_model.lm_head.weight": head})
    assert self_test(policy.load(tmp_path / "trained")).endswith("self-test passed")


def test_words_are_never_unknown_to_a_tokenizer_of_pieces(openvla_directory):
    assert policy.load(openvla_directory).prompts.unknown_words("put the zeppelin there") == []


def test_images_of_any_size_are_decided_on(openvla_directory):
    vla = policy.load(openvla_directory)
    assert vla.config.vision.image_size == SIZE
    for height, width in ((480, 640), (SIZE, SIZE), (17, 300)):
        vla.observe(np.zeros((height, width, 3), np.uint8), "put it there")
