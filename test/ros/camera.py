# SPDX-License-Identifier: Apache-2.0
"""A camera's driver in a process of its own, as vla_node meets it: images of noise at a steady rate on `image`.

python camera.py --size 640x480 --qos best_effort --ros-args -r __ns:=/vla
"""

import argparse
import sys

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

from vla_sd_ros.nodes.parameters import STEADY
from vla_sd_ros.nodes.process import run

DEPTHS = {"reliable": 10, "best_effort": 5}  # as rmw_qos_profile_default and sensor_data have


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--rate", type=float, default=30.0, help="[Hz]")
    parser.add_argument("--qos", default="reliable", choices=DEPTHS)
    parser.add_argument("--compressed", action="store_true", help="jpeg on image/compressed")
    return parser.parse_args(arguments)


def message(width: int, height: int, compressed: bool) -> Image | CompressedImage:
    """Squares of eight pixels in colours at random: as a JPEG about as large as a photograph."""
    pixels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    if compressed:
        import cv2

        return CompressedImage(format="jpeg", data=cv2.imencode(".jpg", pixels)[1].tobytes())
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    image.data.frombytes(np.ascontiguousarray(pixels).data)
    return image


class Camera(rclpy.node.Node):
    def __init__(self, given: argparse.Namespace):
        super().__init__("camera")
        self._image = message(*map(int, given.size.split("x")), given.compressed)
        qos = QoSProfile(depth=DEPTHS[given.qos], reliability=ReliabilityPolicy[given.qos.upper()])
        self._publisher = self.create_publisher(type(self._image), "image/compressed" if given.compressed else "image", qos)
        self.create_timer(1.0 / given.rate, self._publish, clock=STEADY)
        print("filming", flush=True)

    def _publish(self) -> None:
        self._image.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(self._image)

    def stop(self) -> None:
        pass


if __name__ == "__main__":
    sys.exit(run(lambda: Camera(options(remove_ros_args(sys.argv)[1:]))))
