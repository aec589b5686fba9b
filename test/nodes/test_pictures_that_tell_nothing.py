# SPDX-License-Identifier: Apache-2.0
"""One colour tells nothing, whichever it is, with noise and unevenly lit; scenes do, even dim ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import vla_sd_ros
from vla_sd_ros.nodes.vla_node import VlaNode
from vla_sd_ros.watching.picture import contrast

LIMIT = next(spec.default for spec in VlaNode.TABLE if spec.name == "image.min_contrast")
SIZES = [(160, 160), (256, 256), (480, 640), (720, 1280)]
COLOURS = {
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "magenta": (255, 0, 255),
    "skin": (190, 80, 60),
    "grey": (128, 128, 128),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}
SCENE = cv2.imread(str(Path(vla_sd_ros.__file__).with_name("example.jpg")))[..., ::-1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("noise", [0, 5, 20])
@pytest.mark.parametrize("vignette", [0.0, 0.3])
def test_one_colour_with_noise_and_darker_edges_tells_nothing(size, colour, noise, vignette):
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    lit = np.array(COLOURS[colour]) * (1.0 - vignette * (x * x + y * y + 0.5 * x) / 2)[..., None]
    noisy = lit + np.random.default_rng(0).normal(0.0, noise, lit.shape)
    assert contrast(np.clip(noisy, 0, 255).astype(np.uint8)) < LIMIT


def test_noise_in_the_dark_tells_nothing():
    assert contrast(np.random.default_rng(0).integers(0, 4, (480, 640, 3), np.uint8)) < LIMIT


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("light", [1.0, 0.3, 0.1])
def test_a_scene_is_seen_even_where_it_is_dim_and_noisy(size, light):
    scene = cv2.resize(SCENE, size[::-1], interpolation=cv2.INTER_AREA)
    noisy = light * scene + np.random.default_rng(0).normal(0.0, 1.5, scene.shape)
    assert contrast(np.clip(noisy, 0, 255).astype(np.uint8)) > LIMIT


def test_a_grey_scene_is_as_good():
    assert contrast(np.repeat(cv2.cvtColor(SCENE, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)) > 5 * LIMIT


def test_each_shape_of_picture_has_a_contrast():
    for shape in ((1, 1, 3), (3, 500, 3), (5, 7, 3)):
        assert np.isfinite(contrast(np.random.default_rng(0).integers(0, 256, shape, np.uint8)))
