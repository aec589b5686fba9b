# SPDX-License-Identifier: Apache-2.0
"""vla_node as a real process with a small random model, and the world it sees: a camera and joint states over DDS."""

import threading
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from processes import LATCHED, Domain, NodeProcess, Ros, node_command
from rclpy.duration import Duration
from sensor_msgs.msg import CompressedImage, Image, JointState
from vla_sd_msgs.msg import ArmStatus, DecodeStep, EndEffectorCommand

from vla_sd_ros.client import InstructionClient

NODE = "vla_node"
JOINTS = [f"panda_joint{i}" for i in range(1, 8)]
PARAMETERS = {
    "autostart": True,
    "control_period": 0.1,
    "goal.time_limit": 60.0,
    "goal.step_limit": 1000,
    "image.timeout": 0.5,
    "image.grace": 1.0,
    "joint_states.timeout": 0.5,
    "joint_states.grace": 1.0,
    "arm_status.grace": 1.0,
}


class World:
    """A camera at `camera_rate` Hz, joint states at 50 Hz and the status of an arm_node, each of which can be switched off.

    The picture is always the same, which is fine as long as the joints stand still.
    """

    def __init__(self, ros: Ros):
        self.reset()
        self._node, self._pixels = ros.node, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8).tobytes()
        self._joint = 0.0
        self._images = ros.node.create_publisher(Image, "image", 1)
        self._files, self._sent = ros.node.create_publisher(CompressedImage, "image/compressed", 1), 0
        self._joints = ros.node.create_publisher(JointState, "joint_states", 10)
        self._arm = ros.node.create_publisher(ArmStatus, "arm_node/status", LATCHED)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Everything on. delay: age of the images when they are published [s]; stamped: joint states have stamps.

        joint_speed: of each joint [rad/s]. light: factor of the pixels. colour: of the whole picture, with noise.
        jpeg: of the images a file instead, by its number; None: none, raw images.
        """
        self.camera = self.joint_states = self.stamped = self.arm = True
        self.joint_speed, self.light, self.colour, self.jpeg = 0.0, 1.0, None, None
        self.camera_rate, self.encoding, self.delay = 10.0, "rgb8", 0.0

    def _run(self) -> None:
        next_image = next_status = time.monotonic()
        while not self._over.wait(0.02):
            now = self._node.get_clock().now()
            self._joint += 0.02 * self.joint_speed
            if self.joint_states:
                message = JointState(name=JOINTS, position=[self._joint] * 7, velocity=[0.0] * 7)
                if self.stamped:
                    message.header.stamp = now.to_msg()
                self._joints.publish(message)
            if self.arm and time.monotonic() >= next_status:
                next_status = time.monotonic() + 0.1
                self._arm.publish(ArmStatus(state=ArmStatus.MOVING))
            if time.monotonic() >= next_image:
                next_image = max(next_image + 1.0 / self.camera_rate, time.monotonic() - 0.02)
                if self.camera and self.jpeg:
                    message = CompressedImage(format="jpeg", data=self.jpeg(self._sent))
                    message.header.stamp = now.to_msg()
                    self._sent += 1
                    self._files.publish(message)
                elif self.camera:
                    message = Image(height=64, width=64, encoding=self.encoding, step=192, data=self._picture())
                    message.header.frame_id = "camera_optical_frame"
                    message.header.stamp = (now - Duration(seconds=self.delay)).to_msg()
                    self._images.publish(message)

    def _picture(self) -> bytes:
        if self.colour:
            noisy = np.random.default_rng().normal(self.colour, 5.0, (64, 64, 3))
            return np.clip(noisy, 0, 255).astype(np.uint8).tobytes()
        if self.light == 1.0:
            return self._pixels
        return (self.light * np.frombuffer(self._pixels, np.uint8)).astype(np.uint8).tobytes()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


class Vla:
    """The process, the world, a client, and what the node has published. wrap: what comes before the process's command."""

    def __init__(self, checkpoint, folder, wrap=(), discovery="LOCALHOST", **parameters):
        self.domain = Domain()
        self.domain.discovery = discovery
        self.ros = Ros(self.domain)
        self.world = World(self.ros)
        self.commands = self.ros.listen(EndEffectorCommand, "command")
        self.steps = self.ros.listen(DecodeStep, "decode")
        self.diagnostics = self.ros.listen(DiagnosticArray, "/diagnostics")
        self.parameters = PARAMETERS | {"policy.checkpoint": str(checkpoint)} | parameters
        folder.mkdir(exist_ok=True)
        command = node_command("vla_sd_ros.nodes.vla_node", self.parameters, folder)
        self.process = NodeProcess([*wrap, *command], self.domain, folder / "vla_node.log")
        self.client = InstructionClient("vla", context=self.ros.context)

    def wait_until_active(self) -> None:
        self.process.wait_for_line("is active", 240.0)
        self.client.wait_for_node(60.0)
        self.ros.wait_until(lambda: self.ros.node.count_publishers("command"), "the publisher of commands")
        images = "image/compressed" if self.parameters.get("image.compressed") else "image"
        self.ros.wait_until(lambda: self.ros.node.count_subscribers(images), "the subscription to images")
        self.clear()

    def clear(self) -> None:
        """As at the start: the world running and seen, nothing recorded."""
        self.world.reset()
        time.sleep(0.25)  # two images
        self.clear_records()

    def clear_records(self) -> None:
        for seen in (self.commands, self.steps, self.diagnostics):
            seen.clear()

    def start_moving(self, instruction: str = "pick up the milk", steps: int = 2, **limits) -> None:
        """Sends a goal and returns when it has commanded `steps` actions."""
        before = len(self.motions())
        self.client.start(instruction, **limits)
        self.ros.wait_until(lambda: len(self.motions()) >= before + steps, f"{steps} actions")

    def wait_for_feedback(self, condition=lambda feedback: True, timeout: float = 30.0):
        """The goal's newest feedback, as soon as it is as wanted; the goal must still run."""
        deadline = time.monotonic() + timeout
        while not (self.client.feedback and condition(self.client.feedback)):
            assert time.monotonic() < deadline, f"no such feedback within {timeout} s: {self.client.feedback}"
            assert not self.client.is_complete(0.1)
        return self.client.feedback

    def motions(self) -> list:
        return [(when, c) for when, c in self.commands if not c.hold]

    def holds(self) -> list:
        return [(when, c) for when, c in self.commands if c.hold]

    def close(self) -> None:
        self.client.close()
        self.world.stop()
        self.process.kill()
        self.ros.close()
        self.domain.release()
