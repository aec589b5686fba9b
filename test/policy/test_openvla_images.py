# SPDX-License-Identifier: Apache-2.0
"""Images are prepared as OpenVLA's evaluation does it with TensorFlow.

data/tensorflow_images.npz holds what TensorFlow made of a pattern; data/make_tensorflow_images.py says how.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern import SIZES, SUBSET, pattern
from PIL import Image

from vla_sd_ros.policy.config import VlaConfig, openvla_config
from vla_sd_ros.policy.preprocessing import (
    ImageSettings,
    _coded,
    crop_positions,
    jpeg_round_trip,
    lanczos3,
    normalise_pixels,
    parse_settings,
    prepare,
    resize_on_device,
    settings_of,
    shrink,
    turn,
)

TENSORFLOW = np.load(Path(__file__).parent / "data" / "tensorflow_images.npz")
PLAIN = ImageSettings(jpeg=False)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "name, settings",
    [
        ("plain", PLAIN),
        ("jpeg", ImageSettings()),
        ("cropped", ImageSettings(jpeg=False, centre_crop=True)),
        ("all", ImageSettings(centre_crop=True, rotate_180=True)),
    ],
)
def test_pixels_are_tensorflows(size, name, settings):
    expected = TENSORFLOW[f"{name}_{size[0]}x{size[1]}"].astype(int)
    difference = np.abs(prepare(pattern(*size), 224, settings)[SUBSET].astype(int) - expected)
    # where a value lies half way between two grey levels, the order of the additions decides
    assert difference.max() <= 1 and np.mean(difference > 0) < 0.02


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name, settings", [("jpeg", ImageSettings()), ("all", ImageSettings(centre_crop=True, rotate_180=True))])
def test_pixels_that_a_gpu_resizes_are_tensorflows_too(size, name, settings):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    turned = torch.from_numpy(turn(pattern(*size), settings)).to(device)
    pixels = resize_on_device(turned, 224, settings.centre_crop).cpu().numpy()
    difference = np.abs(pixels[SUBSET].astype(int) - TENSORFLOW[f"{name}_{size[0]}x{size[1]}"].astype(int))
    assert difference.max() <= 1 and np.mean(difference > 0) < 0.02


@pytest.mark.parametrize("size", SIZES)
def test_resizing_is_tensorflows_before_rounding(size):
    image = pattern(*size).astype(np.float64)
    resized = np.einsum("yi,ijc,xj->yxc", lanczos3(size[0], 224), image, lanczos3(size[1], 224), optimize=True)
    expected = TENSORFLOW[f"resized_{size[0]}x{size[1]}"]
    assert np.abs(resized[SUBSET] - expected).max() < 3e-4


@given(height=st.integers(1, 700), width=st.integers(1, 700), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_resizing_is_pillows_lanczos_in_floating_point(height, width, seed):
    """Pillow's filter is the same; on bytes, though, it rounds and clips between the two axes: hence mode F."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    resized = [np.asarray(channel.resize((224, 224), Image.Resampling.LANCZOS)) for channel in channels]
    expected = np.clip(np.stack(resized, axis=-1), 0, 255)
    assert np.abs(prepare(image, 224, PLAIN) - expected).max() < 0.52


@given(inputs=st.integers(1, 2000), outputs=st.sampled_from([56, 224, 384]))
@settings(deadline=None)
def test_each_output_is_an_average(inputs, outputs):
    matrix = lanczos3(inputs, outputs)
    assert matrix.shape == (outputs, inputs) and np.allclose(matrix.sum(axis=1), 1, atol=1e-5)


def test_the_crop_spans_the_middle_nine_tenths_of_the_area_from_corner_to_corner():
    positions = crop_positions(224)
    assert positions[0] == pytest.approx((1 - 0.9**0.5) / 2 * 223, abs=1e-3)
    assert positions[-1] == pytest.approx((1 + 0.9**0.5) / 2 * 223, abs=1e-3)
    assert np.allclose(np.diff(positions), 0.9**0.5, atol=1e-3)


def test_one_colour_stays_that_colour():
    for value in (0, 1, 127, 254, 255):
        image = np.full((60, 80, 3), value, np.uint8)
        assert np.all(prepare(image, 224, ImageSettings(jpeg=False, centre_crop=True)) == value)


def test_an_image_of_the_right_size_is_left_alone():
    image = pattern(224, 224)
    assert np.array_equal(prepare(image, 224, PLAIN), image)
    assert np.array_equal(prepare(image, 224, ImageSettings()), jpeg_round_trip(image))


@given(height=st.integers(1, 300), width=st.integers(1, 200), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_halves_of_a_jpeg_are_the_whole(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    assert np.array_equal(jpeg_round_trip(image), _coded(image))


def test_mirrored_upright_images_are_robosuites_rotated_by_180_degrees():
    upright = pattern(224, 224)
    robosuite = upright[::-1]  # its bottom row comes first
    mirrored = prepare(upright, 224, ImageSettings(jpeg=False, mirror=True))
    assert np.array_equal(mirrored, prepare(robosuite, 224, ImageSettings(jpeg=False, rotate_180=True)))
    assert np.array_equal(mirrored, upright[:, ::-1])
    both = prepare(upright, 224, ImageSettings(jpeg=False, mirror=True, rotate_180=True))
    assert np.array_equal(both, upright[::-1])


def test_settings_are_those_that_were_published_with_the_data_set():
    assert settings_of("bridge_orig", {}) == ImageSettings(jpeg=True, centre_crop=False, mirror=False)
    for name in ("libero_spatial", "libero_object_no_noops", "libero_goal", "libero_10_no_noops"):
        assert settings_of(name, {}) == ImageSettings(jpeg=True, centre_crop=True, mirror=True)


def test_a_checkpoint_says_itself_how_its_images_are_prepared():
    table = parse_settings({"kitchen": {"centre_crop": True}, "libero_goal": {"rotate_180": True}})
    assert settings_of("kitchen", table) == ImageSettings(centre_crop=True)
    assert settings_of("libero_goal", table) == ImageSettings(rotate_180=True)
    assert settings_of("libero_object", table) == ImageSettings(centre_crop=True, mirror=True)


def test_how_pictures_of_unknown_data_of_libero_are_turned_is_not_guessed():
    with pytest.raises(ValueError, match="'libero_mine' is none of the data sets .* say in image_settings.json"):
        settings_of("libero_mine", {})
    assert settings_of("libero_mine", parse_settings({"libero_mine": {}})) == ImageSettings()


@pytest.mark.parametrize("entries", [[1], {"kitchen": True}, {"kitchen": {"mirror": 1}}, {"kitchen": {"flip": True}}])
def test_settings_that_make_no_sense_are_one_sentence(entries):
    with pytest.raises(
        ValueError, match="must be an object with some of centre_crop, jpeg, mirror, rotate_180, each true or false"
    ):
        parse_settings(entries)


def test_each_tower_has_its_own_normalisation():
    image = pattern(224, 224)
    pixels = normalise_pixels(torch.from_numpy(image)[None], openvla_config())[0].numpy()
    mean = np.array([0.484375, 0.455078125, 0.40625], np.float32)  # 0.485, 0.456, 0.406 in bfloat16
    std = np.array([0.228515625, 0.2236328125, 0.224609375], np.float32)
    assert np.array_equal(torch.tensor([0.485, 0.456, 0.406]).bfloat16().float().numpy(), mean)
    assert np.array_equal(torch.tensor([0.229, 0.224, 0.225]).bfloat16().float().numpy(), std)
    scaled = image.astype(np.float32) / 255
    assert np.allclose(pixels[:3], ((scaled - mean) / std).transpose(2, 0, 1), atol=1e-6)
    assert np.allclose(pixels[3:], ((scaled - 0.5) / 0.5).transpose(2, 0, 1), atol=1e-6)


def test_the_embedded_policys_normalisation_is_one_for_all():
    image = torch.from_numpy(pattern(32, 32))[None]
    config = VlaConfig(image_mean=0.4, image_std=0.2)
    assert torch.allclose(normalise_pixels(image, config), (image.permute(0, 3, 1, 2) / 255 - 0.4) / 0.2)
    assert shrink(pattern(480, 640), 32).shape == (32, 32, 3)
