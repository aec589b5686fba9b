# SPDX-License-Identifier: Apache-2.0
"""sim_node: a LIBERO scene behind the topics of a real arm with a camera.

The scene runs in real time, paced by the steady clock. Messages carry the time at which their state was simulated,
images that of the state they show. With use_sim_time the node is the source of /clock, and stamps are simulated time.
"""

import sys
import threading

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Empty, Float64, String
from vla_sd_msgs.msg import RunningGoal, SceneStatus, TaskSuccess
from vla_sd_msgs.srv import ResetScene

from vla_sd_ros.messages.poses import pose_of
from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.nodes.answers import answering_later
from vla_sd_ros.nodes.parameters import ERROR, OK, STEADY, WARN, PlainNode
from vla_sd_ros.nodes.process import run, sentence
from vla_sd_ros.nodes.sim_parameters import TABLE
from vla_sd_ros.sim import urdf
from vla_sd_ros.sim.judge import State
from vla_sd_ros.sim.realtime import Listener, RealTimeScene
from vla_sd_ros.sim.scene import LiberoScene, find_task
from vla_sd_ros.sim.suites import INITIAL_STATES

BASE_FRAME, CAMERA_FRAME = "panda_link0", "camera_optical_frame"
JOINTS = [f"panda_joint{i}" for i in range(1, 8)] + ["panda_finger_joint1", "panda_finger_joint2"]
PHYSICS_STEP = 0.002  # [s]
REAL_TIME = 0.98  # ratio below which the simulator says that it falls behind
RESET_TIMEOUT = 60.0  # [s]


class SimNode(PlainNode):
    """The node; see the module's docstring."""

    TABLE = TABLE

    def __init__(self, name: str = "sim_node", **options):
        super().__init__(name, **options)
        self._failure: Exception | None = None
        self._resetting = threading.Lock()
        self._simulated_clock = self.get_parameter("use_sim_time").value
        self._present = {name: self.values[name] for name in ("suite", "task", "initial_state", "seed")}
        self._create_topics()
        period = PHYSICS_STEP * round(1 / (self.values["joint_state_rate"] * PHYSICS_STEP))
        listener = Listener(
            self._on_state, self._on_outcome, self._on_restart, self._stamp, self._on_scene, self._on_image, self._on_failed
        )
        self._simulation = RealTimeScene(self._make_scene, period, 1 / self.values["camera_rate"], listener)
        self._simulation.start()
        self.create_timer(1.0, self._publish_status, clock=STEADY)

    def _create_topics(self) -> None:
        publisher = self.create_publisher
        self._image, self._camera_info = publisher(Image, "image", 1), publisher(CameraInfo, "camera_info", 1)
        self._joint_states = publisher(JointState, "joint_states", 10)
        self._robot_description = publisher(String, "robot_description", LATCHED)
        self._task_success = publisher(TaskSuccess, "task_success", LATCHED)
        self._task_instruction = publisher(String, "task_instruction", LATCHED)
        self._scene_reset = publisher(Empty, "scene_reset", 1)
        self._status = publisher(SceneStatus, "~/status", LATCHED)
        self._clock_topic = publisher(Clock, "/clock", 10) if self._simulated_clock else None
        self.create_subscription(PoseStamped, "target_pose", self._on_target, 1)
        self.create_subscription(Float64, "gripper_command", self._on_gripper, LATCHED)
        self.create_subscription(RunningGoal, "goal", self._on_goal, LATCHED)
        answering_later(self.create_service(ResetScene, "~/reset", self._on_reset))

    # What the scene tells. These run in its threads.

    def _make_scene(self) -> LiberoScene:
        self.get_logger().info("building the scene ...")
        scene = self._build(self._present)
        self.get_logger().info(f"simulating {scene.suite} task {scene.task}: {scene.instruction}")
        return scene

    def _build(self, wanted: dict) -> LiberoScene:
        scene = LiberoScene(wanted["suite"], wanted["task"], self.values["image_size"])
        scene.reset(wanted["initial_state"], wanted["seed"])
        return scene

    def _stamp(self) -> Time:
        if not self._simulated_clock:
            return self.get_clock().now().to_msg()
        pacer = self._simulation.pacer
        seconds, fraction = divmod(pacer.simulated if pacer else 0.0, 1.0)
        return Time(sec=int(seconds), nanosec=int(fraction * 1e9))

    def _on_state(self, scene: LiberoScene) -> None:
        message = JointState(name=JOINTS)
        message.header.stamp = self._stamp()
        message.header.frame_id = BASE_FRAME
        message.position = np.concatenate([scene.q, scene.fingers])
        message.velocity = np.concatenate([scene.dq, scene.finger_velocities])
        self._joint_states.publish(message)
        if self._clock_topic:
            self._clock_topic.publish(Clock(clock=message.header.stamp))

    def _on_outcome(self, instruction: str, state: State, why: str) -> None:
        message = TaskSuccess(instruction=instruction, state=int(state), message=why)
        message.header.stamp = self._stamp()
        self._task_success.publish(message)
        if state is State.SUCCESS:
            self.get_logger().info(f"done: {instruction}")
        elif why:
            self.get_logger().info(f"{instruction!r}: {why}")

    def _on_restart(self) -> None:
        self._scene_reset.publish(Empty())

    def _on_scene(self, scene: LiberoScene) -> None:
        matrix, position, rotation = scene.camera_info()
        self._view = camera_info(matrix, self.values["image_size"])
        self._robot_description.publish(String(data=urdf.with_camera(scene.urdf(), position, rotation)))
        self._task_instruction.publish(String(data=scene.instruction))

    def _on_image(self, image: np.ndarray, stamp: Time) -> None:
        height, width, _ = image.shape
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        message.header.stamp = self._view.header.stamp = stamp
        message.header.frame_id = CAMERA_FRAME
        message.data.frombytes(np.ascontiguousarray(image).data)
        self._image.publish(message)
        self._camera_info.publish(self._view)

    def _on_failed(self, error: Exception) -> None:
        self._failure = error  # raised by diagnose(), in the thread that can end the node

    # What others wish.

    def _on_target(self, message: PoseStamped) -> None:
        try:
            position, rotation = target_of(message)
        except ValueError as error:
            self.get_logger().warning(f"target_pose is ignored: {error}", throttle_duration_sec=1.0)
            return
        self._simulation.set_target(position, rotation)

    def _on_goal(self, message: RunningGoal) -> None:
        """From here on it is the goal's sentence that is judged."""
        if message.instruction:
            self._simulation.ask(message.instruction)

    def _on_gripper(self, message: Float64) -> None:
        if not 0.0 <= message.data <= 1.0:
            self.get_logger().warning(f"gripper_command {message.data} is ignored: it must lie in 0 (closed) .. 1 (open)")
            return
        self._simulation.set_gripper(message.data)

    def _on_reset(self, request: ResetScene.Request, response: ResetScene.Response) -> Future:
        """Building another scene takes seconds, in which everything else must go on: hence the thread."""
        done: Future = Future()
        threading.Thread(target=self._answer_reset, args=(request, response, done), daemon=True).start()
        return done

    def _answer_reset(self, request: ResetScene.Request, response: ResetScene.Response, done: Future) -> None:
        try:
            with self._resetting:
                scene = self._reset(request)
            response.success, response.instruction = True, scene.instruction
        except Exception as error:  # whatever it is, the caller waits for an answer
            response.message = sentence(error)
            self.get_logger().warning(f"reset is refused: {response.message}")
        done.set_result(response)

    def _reset(self, request: ResetScene.Request) -> LiberoScene:
        """Reset the scene as requested; returns it. ValueError for what does not exist, RuntimeError when it fails."""
        present = self._simulation.scene
        if present is None:
            raise RuntimeError("the first scene is still being built; try again in a few seconds")
        wanted = {
            "suite": request.suite or self._present["suite"],
            "task": request.task if request.task >= 0 else self._present["task"],
            "initial_state": request.initial_state,
            "seed": request.seed,
        }
        find_task(wanted["suite"], wanted["task"])
        if not 0 <= request.initial_state < INITIAL_STATES:
            raise ValueError(f"initial state {request.initial_state} is out of range: 0..{INITIAL_STATES - 1}")
        if (wanted["suite"], wanted["task"]) == (present.suite, present.task):
            scene, done = present, self._simulation.reset(request.initial_state, request.seed)
        else:
            scene = self._build(wanted)
            done = self._simulation.replace(scene)
        if not done.wait(RESET_TIMEOUT):
            raise RuntimeError(f"the simulator did not take up the reset within {RESET_TIMEOUT:.0f} s")
        self._present = wanted
        return scene

    # Status, diagnostics and the end.

    def _publish_status(self) -> None:
        pacer = self._simulation.pacer
        if pacer is None:
            return
        message = SceneStatus(
            **self._present, simulated_time=pacer.simulated, wall_time=pacer.wall, skipped_images=self._simulation.skipped_images
        )
        message.header.stamp = self._stamp()
        self._status.publish(message)

    def diagnose(self) -> tuple:
        if self._failure:
            raise self._failure
        values = dict(self._present)
        pacer = self._simulation.pacer
        if pacer is None:
            return OK, "building the scene", values
        values |= {"realtime ratio": f"{pacer.ratio:.3f}", "skipped images": self._simulation.skipped_images}
        if self._clock_topic and (clocks := self.count_publishers(self._clock_topic.topic_name)) > 1:
            return ERROR, f"{clocks} nodes publish /clock: give each simulator a ROS_DOMAIN_ID of its own", values
        if pacer.ratio < REAL_TIME:
            return WARN, f"the simulator falls behind real time: {pacer.ratio:.2f} simulated seconds per second", values
        return OK, "running in real time", values

    def stop(self) -> None:
        self._simulation.stop()


def target_of(message: PoseStamped) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) [m] and rotation (3, 3) of a target. ValueError: wrong frame, not finite, not a unit quaternion."""
    if message.header.frame_id != BASE_FRAME:
        raise ValueError(f"its frame is {message.header.frame_id!r}, but must be {BASE_FRAME!r}")
    pose = pose_of(message.pose)
    return pose.position, pose.rotation


def camera_info(matrix: np.ndarray, size: int) -> CameraInfo:
    """CameraInfo, without stamp, of a pinhole camera with K `matrix` (3, 3) [pixels] and a square image."""
    message = CameraInfo(width=size, height=size, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.frame_id = CAMERA_FRAME
    message.k = matrix.ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([matrix, np.zeros((3, 1))]).ravel()
    return message


def main() -> int:
    """Entry point of the executable sim_node."""
    return run(SimNode)


if __name__ == "__main__":
    sys.exit(main())
