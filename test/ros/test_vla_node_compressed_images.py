# SPDX-License-Identifier: Apache-2.0
"""With image.compressed the camera may send jpeg or png on image/compressed."""

import numpy as np
import pytest
from processes import BEST_EFFORT
from sensor_msgs.msg import CompressedImage
from vla import Vla

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")


def test_the_arm_moves_on_compressed_images(checkpoint, tmp_path):
    vla = Vla(checkpoint, tmp_path, **{"image.compressed": True})
    try:
        vla.world.camera = False
        vla.process.wait_for_line("is active", 60.0)
        data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
        vla.client.start("pick up the milk", step_limit=3)
        while not vla.client.is_complete(0.1):
            message = CompressedImage(format="jpeg", data=data)
            message.header.stamp = vla.ros.node.get_clock().now().to_msg()
            vla.ros.publish(CompressedImage, "image/compressed", message, BEST_EFFORT)
        assert vla.client.result().termination_reason == "step_limit"
        assert len(vla.motions()) == 3
    finally:
        vla.close()
