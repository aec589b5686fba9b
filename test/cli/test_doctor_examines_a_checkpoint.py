# SPDX-License-Identifier: Apache-2.0
"""`vla-sd doctor --checkpoint` loads a checkpoint, tests it and prints its action for an image, or says what is wrong."""

import os
import re
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from vla_sd_ros import policy
from vla_sd_ros.cli import main

sys.path.insert(0, str(Path(__file__).parents[1] / "policy"))

import openvla_checkpoint  # noqa: E402


def examine(capsys, *arguments) -> tuple[int, str]:
    code = main(["doctor", "--checkpoint", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_a_good_checkpoint_decides(capsys, tmp_path):
    policy.write_random(tmp_path / "mine")
    code, text = examine(capsys, tmp_path / "mine", "--instruction", "pick up the milk")
    assert code == 0 and text.startswith("ok    checkpoint: mine: ") and "self-test passed" in text
    assert len(re.search(r"bins \[(.*)\]", text)[1].split(",")) == 7
    assert re.search(r"action \[m, rad\]: x [+-]0\.\d{4}, .*gripper [+-]", text)


def test_an_openvla_checkpoint_decides_on_the_shipped_image(capsys, tmp_path):
    """The directory is laid out as published ones are, only small."""
    openvla_checkpoint.write(tmp_path / "small", openvla_checkpoint.random_tensors(openvla_checkpoint.shapes()))
    code, text = examine(capsys, tmp_path / "small", "--unnorm-key", "bridge_orig")
    assert code == 0 and "example.jpg: bins" in text and "statistics: bridge_orig, of bridge_orig" in text, text
    for part in ("float32", "MB on cpu", "ms an action when warm", "self-test passed"):
        assert part in text.splitlines()[0]
    x, yaw = (float(re.search(rf"{name} ([+-]\d\.\d+)", text)[1]) for name in ("x", "yaw"))
    assert -0.0288 < x < 0.0284 and -0.2072 < yaw < 0.2039  # bridge_orig's limits, in metres and radians
    code, text = examine(capsys, tmp_path / "small", "--unnorm-key", "berkeley_autolab_ur5")
    assert code == 1 and "no statistics 'berkeley_autolab_ur5'" in text and "bridge_orig" in text


def test_an_image_of_ones_own(capsys, tmp_path):
    cv2.imwrite(str(tmp_path / "seen.png"), np.full((64, 64, 3), 200, np.uint8))
    code, text = examine(capsys, "random-tiny-openvla", "--image", tmp_path / "seen.png")
    assert code == 0 and "seen.png: bins" in text and "jpeg=True" in text
    code, text = examine(capsys, "random-tiny-openvla", "--image", tmp_path / "absent.png")
    assert code == 1 and "absent.png is no image" in text


def test_a_picture_that_only_claims_to_be_one_is_one_line(capsys, tmp_path):
    """60000 x 60000 pixels in a hundred bytes, which would take 10 GB; and a text."""
    size = (60000).to_bytes(4, "big")
    chunk = b"IHDR" + size + size + bytes([8, 2, 0, 0, 0])
    png = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    for content in (png, b"no picture"):
        (tmp_path / "claim.png").write_bytes(content)
        code, text = examine(capsys, "random-tiny-openvla", "--image", tmp_path / "claim.png")
        assert code == 1 and "claim.png is no image: " in text and text.count("\n") == 1


def test_a_bad_one_is_one_line_with_the_reason(capsys, tmp_path):
    policy.write_random(tmp_path / "mine")
    (tmp_path / "mine" / "config.json").unlink()
    code, text = examine(capsys, tmp_path / "mine")
    assert code == 1 and text.startswith("FAIL  checkpoint: ") and "no config.json" in text and text.count("\n") == 1


@pytest.mark.skipif("VLA_SD_OPENVLA_DIR" not in os.environ, reason="VLA_SD_OPENVLA_DIR names no checkpoint")
def test_a_published_checkpoint(capsys):
    key = os.environ.get("VLA_SD_OPENVLA_KEY", "bridge_orig")
    code, text = examine(
        capsys, os.environ["VLA_SD_OPENVLA_DIR"], "--unnorm-key", key, "--device", os.environ.get("VLA_SD_OPENVLA_DEVICE", "cpu")
    )
    assert code == 0, text
    assert text.splitlines()[0].endswith("self-test passed")  # an action leads the vocabulary
