# SPDX-License-Identifier: Apache-2.0
"""Where steps do without a look at their image, vla_node watches the camera as before: one that stops, freezes or goes dark holds
the arm and ends the goal at the same time; and after a hold, or an image that comes late, the next image is looked at."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("vla_sd_msgs.action", reason="vla_sd_msgs is not installed (pip install ./msg)")

from sensor_msgs.msg import Image  # noqa: E402
from standin import Handle, Node, Publisher, SetClock  # noqa: E402
from unique_identifier_msgs.msg import UUID  # noqa: E402
from vla_sd_msgs.msg import ArmStatus  # noqa: E402

from vla_sd_ros import policy  # noqa: E402
from vla_sd_ros.assembly.brain import Choice  # noqa: E402
from vla_sd_ros.assembly.local import LocalBrain, Model  # noqa: E402
from vla_sd_ros.decoding.settings import Settings  # noqa: E402
from vla_sd_ros.nodes.goals import Goals  # noqa: E402
from vla_sd_ros.nodes.inference import Inference  # noqa: E402
from vla_sd_ros.nodes.inputs import Inputs  # noqa: E402
from vla_sd_ros.policy.model import DraftHead  # noqa: E402
from vla_sd_ros.watching.goal import GoalCode  # noqa: E402
from vla_sd_ros.watching.inputs import Sample  # noqa: E402

PERIOD = 0.2
SURE = np.eye(256, dtype=np.float32)[[100, 120, 130, 128, 128, 128, 0]]
LOOKS = Settings(skip_confidence=0.5, fused_run=4, skip_while_right=False)
AHEAD = replace(LOOKS, ahead_confidence=0.5)


@pytest.fixture(scope="module")
def vla(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    policy.write_random(directory)
    vla = policy.load(directory)
    vla.use_draft_head(DraftHead(vla.config.vision.width, vla.config.text.hidden_size, looks_ahead=True))
    vla.draft, vla.draft_ahead = lambda prompt: SURE, lambda prompt, executed, by: SURE
    return vla


class Robot:
    """vla_node's goals and its inference thread, without the thread, before an arm that moves; the test lets time pass."""

    def __init__(self, vla, settings: Settings):
        self.node, self.clock, self.rng = Node(control_period=PERIOD), SetClock(), np.random.default_rng(0)
        self.node.brain = LocalBrain(Model(vla), Choice("fused", settings))
        inputs = self.inputs = Inputs(self.node, self.clock)
        inputs.poll, inputs.image_advice, inputs.pose_at = self.hear, lambda: "check the camera", lambda stamp: None
        self.camera, self.contrast, self.frozen = True, 60.0, False
        self.commands, self.steps = Publisher(), Publisher()
        self.goals = Goals(self.node, self.clock, inputs, self.commands, Publisher())
        self.inference = Inference(self.node, self.clock, self.goals, inputs, self.commands, self.steps)
        self.image, self.began = None, self.clock.time
        self.take()
        handle = Handle()
        handle.goal_id, handle.publish_feedback = UUID(uuid=np.ones(16, np.uint8)), lambda feedback: None
        self.goals.on_accepted(handle)
        self.run = self.goals.running

    def take(self) -> None:
        """A picture, if the camera runs."""
        if not self.camera:
            return
        if self.image is None or not self.frozen:
            coarse = 128 + self.contrast * self.rng.standard_normal((8, 8, 3))
            self.pixels = np.kron(coarse, np.ones((4, 4, 1))).clip(0, 255).astype(np.uint8)
        message = Image(height=32, width=32, encoding="rgb8", step=96, data=self.pixels.tobytes())
        message.header.stamp = self.clock.stamp()
        self.image = Sample(message, self.clock.time, self.clock.time)

    def hear(self) -> None:
        joints = SimpleNamespace(name=["joint"], position=[self.clock.time])
        self.inputs.images.sample = self.image
        for latest, message in ((self.inputs.joint_states, joints), (self.inputs.arm, ArmStatus())):
            latest.sample = Sample(message, self.clock.time, self.clock.time)

    def live(self, seconds: float) -> None:
        """Time passes, with the node's two loops."""
        for _ in range(round(seconds / 0.02)):
            self.clock.time = round(self.clock.time + 0.02, 6)
            if round((self.clock.time - self.began) / 0.02) % round(PERIOD / 0.02) == 0:
                self.take()
            self.goals.supervise(self.run)
            if not self.run.ending and self.image and self.inference._pacer.wait(self.image, self.clock.time, PERIOD) <= 0.0:
                self.inference._step(self.run, self.image)

    @property
    def paths(self) -> list[str]:
        return [step.path for step in self.steps]

    def ends(self) -> tuple:
        """When it held first, when it ended and with which code, after the trouble began."""
        begin, held = self.clock.time, None
        while not self.run.ending and self.clock.time < begin + 10.0:
            self.live(0.02)
            held = held if held or not self.run.holding else round(self.clock.time - begin, 3)
        return held, round(self.clock.time - begin, 3), self.run.ending.code


@pytest.mark.parametrize(
    "trouble, code",
    [
        ({"camera": False}, GoalCode.IMAGE_STALE),
        ({"frozen": True}, GoalCode.IMAGE_FROZEN),
        ({"contrast": 0.0}, GoalCode.IMAGE_BLANK),
    ],
)
def test_a_camera_that_fails_ends_the_goal_as_before(vla, trouble, code):
    told = []
    for settings in (LOOKS, AHEAD):
        robot = Robot(vla, settings)
        robot.live(2.2)
        assert ("ahead" in robot.paths) == (settings is AHEAD)
        vars(robot).update(trouble)
        told.append(robot.ends())
    assert told[0] == told[1] and told[0][2] == code


def test_after_a_hold_the_next_image_is_looked_at(vla):
    robot = Robot(vla, AHEAD)
    robot.live(1.3)
    while robot.paths[-1] == "ahead":
        robot.live(PERIOD)
    known = len(robot.paths)
    robot.contrast = 0.0
    robot.live(PERIOD)
    assert robot.run.holding and len(robot.paths) == known
    robot.contrast = 60.0
    robot.live(2 * PERIOD)
    assert len(robot.paths) > known and robot.paths[known] != "ahead"


def test_an_image_that_comes_late_is_looked_at(vla):
    robot = Robot(vla, AHEAD)
    robot.live(1.3)
    while robot.paths[-1] == "ahead":
        robot.live(PERIOD)
    known, robot.camera = len(robot.paths), False
    robot.live(PERIOD)
    robot.camera = True
    robot.live(PERIOD)
    assert not robot.commands[-1].hold and len(robot.paths) == known + 1 and robot.paths[known] != "ahead"
    robot.live(PERIOD)
    assert robot.paths[-1] == "ahead"
