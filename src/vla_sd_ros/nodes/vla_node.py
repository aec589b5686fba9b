# SPDX-License-Identifier: Apache-2.0
"""vla_node: camera image and instruction in, end-effector steps out, as the action server `execute_instruction`.

Three kinds of threads: the executor's, one of which supervises the running goal (`_execute`); the inference thread,
which decodes the newest image (`_infer`) and may take as long as it likes; and, ending everything, the main thread.
Whoever ends a goal first wins (`_end`), under the one lock that guards every command: after a hold command of an
ended goal no motion of that goal can follow.
"""
import contextlib
import functools
import inspect
import math
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import MISSING, dataclass, field, fields

import numpy as np
from pinocchio import Quaternion
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Empty, Header
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import ArmStatus, DecodeStep, EndEffectorCommand, RunningGoal, TaskSuccess

from vla_sd_ros import stamps
from vla_sd_ros.assembly import Address, Brain, Choice, Source, free_memory, open_brain, warm_up
from vla_sd_ros.decoding.settings import DECODERS, Settings
from vla_sd_ros.images import compressed_to_rgb, to_rgb, unreadable
from vla_sd_ros.instruction import normalized, objection
from vla_sd_ros.kinematics.motion import Measured
from vla_sd_ros.kinematics.pose_buffer import PoseBuffer
from vla_sd_ros.nodes import messages
from vla_sd_ros.nodes.goal_watch import (CANCELED, DEACTIVATED, PREEMPTED, SCENE_RESET, SUCCESS, ClientWatch, Code, Ending, GoalWatch,
                                         Latest, Limits, Pacer, PictureWatch, Sample, View, inference_failed, task_failed)
from vla_sd_ros.nodes.lifecycle import OK, WARN, ManagedNode, ParameterSpec, run as run_node, sentence
from vla_sd_ros.nodes.matching import QOS, MatchedSubscription
from vla_sd_ros.nodes.polling import PolledOnly, PolledTime

MAX_TIME_LIMIT = 3600.0     # s
MAX_STEP_LIMIT = 100_000
SUPERVISION_PERIOD = 0.02   # s, between two looks at a running goal
FEEDBACK = "execute_instruction/_action/feedback"
LONGEST_FRAME_ID = 255
CLIENT_PERIOD = 0.2         # s, between two looks at whether its client is there
STATUS_SILENCE = 1.0        # s, after which what arm_node said last is not asked any more; it speaks at 10 Hz
IMAGE_PERIOD = 0.005        # s, between two looks for a new image while a goal waits for one
POSES = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)  # of two images
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LIVE = ("policy.unnorm_key",)      # of the parameters of the policy
UNCONFIGURED_ONLY = "Changeable only while the node is unconfigured."


@dataclass
class Run:
    """One accepted goal, until its result is sent."""
    handle: object
    accepted: float                     # s, node clock
    accepted_wall: int                  # ns, wall clock, as the middleware stamps messages
    began: float = field(default_factory=time.monotonic)
    watch: GoalWatch = field(default_factory=GoalWatch)
    picture: PictureWatch = field(default_factory=PictureWatch)
    client: ClientWatch = field(default_factory=ClientWatch)
    client_seen: float = -math.inf      # s, steady: the last look at it
    client_gone: float = 0.0            # s, as of that look
    decisions: list = field(default_factory=list)
    history: object = None              # of the decoders; made with the first step
    last_step: float = -math.inf        # s, steady
    holding: bool = False
    why: str = ""                       # it holds
    unknown_words: list[str] = field(default_factory=list)
    not_judged: str = ""                # why nobody can tell whether it succeeded
    ending: Ending | None = None
    over: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    @property
    def goal(self) -> ExecuteInstruction.Goal:
        return self.handle.request

    @property
    def goal_id(self):
        return self.handle.goal_id


def decoder_parameters() -> tuple[ParameterSpec, ...]:
    """One parameter for each setting of the decoders."""
    return tuple(
        ParameterSpec(f"decoder.{entry.name}",
                      entry.default if entry.default is not MISSING else entry.default_factory(),
                      f"{entry.metadata['description']} Effective at the next step.", entry.metadata["low"],
                      entry.metadata["high"], tuple(entry.metadata["choices"]))
        for entry in fields(Settings))


class VlaNode(PolledTime, ManagedNode):
    """The lifecycle node; see the module's docstring."""

    TABLE = (
        ParameterSpec("policy.checkpoint", "libero",
                      "Checkpoint directory, as a path with a / in it, or the name of one that ships with the "
                      f"package. {UNCONFIGURED_ONLY}"),
        ParameterSpec("policy.device", "cpu", f"Torch device of the model: cpu, cuda, cuda:1. {UNCONFIGURED_ONLY}"),
        ParameterSpec("policy.unnorm_key", "", "Key of the action statistics in the checkpoint; empty where it has "
                                               "only one. Effective at the next step."),
        ParameterSpec("policy.largest_translation", 0.25, "Largest translation along an axis that the action statistics may "
                      f"hold [m]; more are other units, and refused. {UNCONFIGURED_ONLY}", 0.001, 10.0),
        ParameterSpec("policy.largest_rotation", 1.25, f"The same for the rotation [rad]. {UNCONFIGURED_ONLY}", 0.005, 10.0),
        ParameterSpec("policy.threads", 0, f"CPU threads of the model; 0: the library's choice. {UNCONFIGURED_ONLY}",
                      0, 256),
        ParameterSpec("policy.dtype", "", "Precision of OpenVLA's weights; empty: as they are stored. "
                                          f"{UNCONFIGURED_ONLY}", choices=("", "bfloat16", "float16", "float32")),
        ParameterSpec("policy.quantization", "none", "Of the matrices of the language model's layers, by torchao. "
                                                     f"{UNCONFIGURED_ONLY}", choices=("none", "int8", "int4", "fp8")),
        ParameterSpec("policy.database", "", "Trajectory database for the decoders that retrieve, a directory or the URL "
                                             f"of a Qdrant server; empty: none. {UNCONFIGURED_ONLY}"),
        ParameterSpec("policy.drafter", "", "Drafter for the decoders that draft, a directory or a file; empty: the "
                                            f"checkpoint's own, if it has one. {UNCONFIGURED_ONLY}"),
        ParameterSpec("policy.remote", "", "Policy server that decides instead of a local model, ws://host:port of vla-sd "
                                           f"serve or openpi; empty: none. {UNCONFIGURED_ONLY}"),
        ParameterSpec("policy.remote_timeout", 2.0, "Time for connecting to the policy server, and for each of its answers "
                                                    f"[s]. {UNCONFIGURED_ONLY}", 0.05, 60.0),
        ParameterSpec("policy.remote_key_file", "", "File with the policy server's API key; empty: none. "
                                                    f"{UNCONFIGURED_ONLY}"),
        ParameterSpec("policy.remote_image_key", "observation/image", "Under which the policy server expects the image. "
                                                                      f"{UNCONFIGURED_ONLY}"),
        ParameterSpec("decoder.name", "autoregressive", "Decoder of the action tokens; effective at the next step.",
                      choices=DECODERS),
        *decoder_parameters(),
        ParameterSpec("control_period", 0.2, "Time over which one action is executed, and between two actions [s].",
                      0.02, 5.0),
        ParameterSpec("goal.time_limit", 120.0, "Time limit of a goal that names none [s].", 0.1, MAX_TIME_LIMIT),
        ParameterSpec("goal.step_limit", 400, "Limit of actions of a goal that names none.", 1, MAX_STEP_LIMIT),
        ParameterSpec("goal.unknown_words", "warn", "What becomes of a goal with words that the policy was never trained on.",
                      choices=("warn", "reject")),
        ParameterSpec("goal.client_timeout", 0.0, "Time for which the client may be gone before its goal is aborted [s]; 0: the "
                      "goal goes on without it.", 0.0, 600.0),
        ParameterSpec("image.timeout", 1.0, "Age of the newest image beyond which the arm holds [s].", 0.05, 60.0),
        ParameterSpec("image.grace", 2.0, "Time of holding for an image after which the goal is aborted [s].",
                      0.0, 600.0),
        ParameterSpec("image.frozen_motion", 0.05, "Motion of a joint [rad] during which the picture must change; the arm "
                      "holds when it stays the same for image.timeout. 0: not watched.", 0.0, 6.3),
        ParameterSpec("image.min_contrast", 2.0, "Standard deviation of the values of the picture's parts, 0 .. 255, below which "
                      "the arm holds: dark, covered, over-exposed, of one colour. 0: not watched.", 0.0, 64.0),
        ParameterSpec("image.compressed", False, "Subscribe to sensor_msgs/CompressedImage on image/compressed "
                                                 "instead of sensor_msgs/Image on image.", read_only=True),
        ParameterSpec("image.qos", "auto", "Reliability to ask of the camera's driver; auto: what it offers.", choices=QOS,
                      read_only=True),
        ParameterSpec("joint_states.timeout", 0.5, "Age of the newest joint state beyond which the arm holds [s].",
                      0.02, 60.0),
        ParameterSpec("joint_states.grace", 2.0, "Time of holding for a joint state after which the goal is aborted "
                                                 "[s].", 0.0, 600.0),
        ParameterSpec("arm_status.grace", 2.0, "Time for which arm_node may report a fault, or be silent, before the "
                                               "goal is aborted [s]; longer than the slowest action.", 0.1, 600.0),
        ParameterSpec("base_frame", "panda_link0", "Frame of the robot's base: the actions are along its axes.",
                      read_only=True),
    )

    def __init__(self, name: str = "vla_node", **options):
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)    # a new goal, or the end
        self._run: Run | None = None                    # the goal that commands the arm
        self._brain: Brain | None = None                # decides; from configure to cleanup
        self._images, self._joint_states, self._arm = Latest(), Latest(), Latest()
        self._poses = PoseBuffer()                      # used by the inference thread alone
        self._pacer = Pacer()                           # used by the inference thread alone
        self._undecodable = 0                           # images of which no picture could be made
        self._recent: deque = deque(maxlen=100)         # (steady time, latency [ms]) of the newest actions
        self._thread: threading.Thread | None = None
        self._camera: MatchedSubscription | None = None
        self._joint_input = self._pose_input = None
        super().__init__(name, **options)
        self._commands = self.create_publisher(EndEffectorCommand, "command", 1)
        self._steps = self.create_publisher(DecodeStep, "decode", 10)
        self._goal = self.create_publisher(RunningGoal, "goal", LATCHED)
        # Its own group: the goal's callbacks come one after the other and wait for nothing else. `_execute` is a
        # task outside any group, so it blocks none of them.
        self._server = ActionServer(
            self, ExecuteInstruction, "execute_instruction", execute_callback=lambda handle: None,
            goal_callback=self._on_goal, handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel, callback_group=MutuallyExclusiveCallbackGroup(), result_timeout=300)

    # Lifecycle

    def configure(self) -> None:
        self.made.append(self._forget)
        self._load()
        self._subscribe()
        stopping = threading.Event()            # one for each thread: none of the past is set going again
        self._thread = threading.Thread(target=self._infer, args=(stopping,), name="inference", daemon=True)
        self.made += [self._join, self._end_goal, stopping.set]
        self._thread.start()

    def _load(self) -> None:
        """Loads the model, or connects to it, tests it, and lets it decide twice. Raises with one sentence."""
        brain = open_brain(self._where(), self._choice(self.values))
        self.made.append(brain.close)
        self.get_logger().info(brain.self_test())
        warm_up(brain)
        self._brain = brain

    def _where(self) -> Source | Address:
        value = self.values
        if value["policy.remote"]:
            return Address(url=value["policy.remote"], timeout=value["policy.remote_timeout"],
                           key_file=value["policy.remote_key_file"], image_key=value["policy.remote_image_key"])
        return Source(
            checkpoint=value["policy.checkpoint"], device=value["policy.device"], unnorm_key=value["policy.unnorm_key"],
            threads=value["policy.threads"], dtype=value["policy.dtype"], quantization=value["policy.quantization"],
            drafter=value["policy.drafter"], database=value["policy.database"],
            largest_step=(value["policy.largest_translation"], value["policy.largest_rotation"]))

    def activate(self) -> None:
        self._arm = Latest()                    # an arm_node of the past is not missed

    def deactivate(self) -> None:
        with self._lock:
            self.state = "inactive"             # no new goal from here on
            running = self._run
            if running:
                self._end(running, DEACTIVATED)
        if running:
            running.answered.wait(1.0)

    def _end_goal(self) -> None:
        """No motion from here on, and nothing that the inference thread waits for."""
        with self._news:
            if self._run:
                self._end(self._run, DEACTIVATED)
            self._news.notify_all()
        if self._brain:
            self._brain.close()

    def _join(self) -> None:
        """Wait for the inference thread; the process's own deadline bounds this at shutdown."""
        if self._thread.is_alive():
            self._thread.join()

    def _forget(self) -> None:
        """The model, what was heard, and the memory of both."""
        self._thread = self._camera = self._joint_input = self._pose_input = None
        self._brain = None
        self._poses = PoseBuffer()
        self._images, self._joint_states, self._arm = Latest(), Latest(), Latest()
        free_memory()

    def destroy_node(self) -> None:
        """Leave the graph at once; the action server would hold on to the node."""
        self._server.destroy()
        super().destroy_node()

    def stop(self) -> None:
        """Before the process ends. The executor turns meanwhile, because only it can send the result of a goal."""
        stopping = threading.Thread(target=super().stop, daemon=True)
        stopping.start()
        end = math.inf
        while time.monotonic() < end:
            with contextlib.suppress(Exception):        # the hold goes out whatever a callback raises now
                self.executor.spin_once(timeout_sec=0.02)
            if not stopping.is_alive():
                end = min(end, time.monotonic() + 0.1)

    def _subscribe(self) -> None:
        kind, topic = (CompressedImage, "image/compressed") if self.values["image.compressed"] else (Image, "image")

        def listen(kind, topic, callback, qos, group=MutuallyExclusiveCallbackGroup):
            return self.create_subscription(kind, topic, callback, qos, callback_group=group())

        self._camera = MatchedSubscription(self, kind, topic, qos=self.values["image.qos"], callback_group=PolledOnly())
        self.made.append(self._camera.close)
        self._joint_input = listen(JointState, "joint_states", lambda message: None, NEWEST, PolledOnly)
        self._pose_input = listen(PoseStamped, "measured_pose", lambda message: None, POSES, PolledOnly)
        listen(ArmStatus, "arm_node/status", lambda message: self._keep(self._arm, message), LATCHED)
        listen(TaskSuccess, "task_success", self._on_success, LATCHED)
        listen(Empty, "scene_reset", self._on_scene_reset, 1)

    # Parameters

    def check(self, values: dict) -> None:
        """Refuses a change of the model while it is loaded, and an unknown decoder. ValueError with one sentence."""
        changed = {name for name, value in values.items() if value != self.values.get(name)}
        fixed = sorted(name for name in changed if name.startswith("policy.") and name not in LIVE)
        if fixed and self.state != "unconfigured":
            raise ValueError(f"parameter '{fixed[0]}' can change only while {self.get_name()} is unconfigured; "
                             "deactivate it and clean it up first")
        choice = self._choice(values)           # whether the settings fit together
        chosen = {name for name in changed if name.startswith("decoder.") or name in LIVE}
        if chosen and self._brain:
            self._brain.check(choice, chosen)

    def apply(self, changed: set) -> None:
        if self._brain and any(name.startswith("decoder.") or name in LIVE for name in changed):
            self._brain.use(self._choice(self.values))
            if "policy.unnorm_key" in changed:
                self.get_logger().info(f"Action statistics: {self.values['policy.unnorm_key']}")

    @staticmethod
    def _choice(values: dict) -> Choice:
        """Raises ValueError, with one sentence, for a bad combination."""
        settings = Settings(**{entry.name: values[f"decoder.{entry.name}"] for entry in fields(Settings)})
        return Choice(decoder=values["decoder.name"], settings=settings, unnorm_key=values["policy.unnorm_key"])

    # Inputs

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _keep(self, latest: Latest, message, waited: float = 0.0) -> None:
        """Puts the message into its buffer; it came `waited` seconds ago."""
        latest.sample = Sample(message, stamps.seconds(message.header.stamp, self._now() - waited), time.monotonic() - waited)

    def _poll(self) -> None:
        """Takes what has come of joint states and images. Under the lock."""
        if taken := self._joint_input.handle.take_message(JointState, False):
            self._keep(self._joint_states, taken[0], _waited(taken[1]))
        self._camera.look()
        while taken := self._camera.take():
            self._keep(self._images, taken[0], _waited(taken[1]))
            if problem := self._camera_problem():
                self.get_logger().warning(problem, throttle_duration_sec=60.0)

    def _pose_at(self, stamp: float) -> Measured | None:
        """Where arm_node measured the end effector at a time [s]; None where it did not."""
        while taken := self._pose_input.handle.take_message(PoseStamped, False):
            message, info = taken
            if message.header.frame_id != self.values["base_frame"]:
                continue
            where, turn = message.pose.position, message.pose.orientation
            pose = Measured(np.array([where.x, where.y, where.z]),
                            np.asarray(Quaternion(turn.w, turn.x, turn.y, turn.z).matrix()))
            self._poses.add(stamps.seconds(message.header.stamp, self._now() - _waited(info)), pose)
        return self._poses.at(stamp)

    def _camera_problem(self) -> str:
        """Why no picture can be made of this camera's kind of images, as a sentence; empty where none has come."""
        image = self._images.sample
        problem = unreadable(image.message) if image else ""
        return f"The camera's images cannot be used: {problem}." if problem else ""

    def _on_success(self, message: TaskSuccess, info: dict) -> None:
        """Ends the goal, unless the message is of another sentence, or a latched one from before the goal."""
        with self._lock:
            published, run = info["source_timestamp"] or time.time_ns(), self._run
            if run is None or published <= run.accepted_wall or not _speaks_of(message, run.goal.instruction):
                return
            run.not_judged = message.message if message.state == TaskSuccess.NOT_JUDGED else ""
            if message.state == TaskSuccess.SUCCESS:
                self._end(run, SUCCESS)
            elif message.state == TaskSuccess.FAILURE:
                self._end(run, task_failed(message.message))
            elif run.not_judged:
                self.get_logger().warning(f"Nobody can tell whether this goal succeeds: {run.not_judged}")

    def _on_scene_reset(self, message: Empty) -> None:
        """The simulator is about to put arm and objects elsewhere: what the goal wanted is no longer there."""
        with self._lock:
            if self._run:
                self._end(self._run, SCENE_RESET)

    # Goals: acceptance, cancel, preemption

    def _on_goal(self, goal: ExecuteInstruction.Goal) -> GoalResponse:
        objection = self._objection(goal)
        if objection:
            self.get_logger().warning(f"The goal was rejected: {objection}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _objection(self, goal: ExecuteInstruction.Goal) -> str:
        """Why the goal cannot be accepted, as a sentence; empty when it can."""
        if self.state == "configuring":
            return f"{self.get_name()} is still loading the model; send the goal when it is active."
        if not self.active:
            return f"{self.get_name()} is {self.state}, not active; configure and activate it first."
        if wrong := objection(goal.instruction):
            return f"the instruction {wrong}; say in words what the arm shall do."
        if not 0.0 <= goal.time_limit <= MAX_TIME_LIMIT:
            return (f"time_limit is {goal.time_limit:g} s; it must lie in 0 .. {MAX_TIME_LIMIT:g} s, where 0 means "
                    "the node's parameter goal.time_limit.")
        if goal.step_limit > MAX_STEP_LIMIT:
            return (f"step_limit is {goal.step_limit}; it must lie in 0 .. {MAX_STEP_LIMIT}, where 0 means the "
                    "node's parameter goal.step_limit.")
        arm = self._arm.sample
        if arm and arm.message.code == ArmStatus.HELD and time.monotonic() - arm.received < STATUS_SILENCE:
            return f"the arm is held: {arm.message.message}; call ~/hold of arm_node with data: false first."
        if problem := self._camera_problem():
            return problem
        brain = self._brain
        unknown = brain.unknown_words(goal.instruction) if brain and self.values["goal.unknown_words"] == "reject" else []
        if unknown:
            return (f"the policy was never trained on these words: {', '.join(unknown)}; say it in other words, or set "
                    "goal.unknown_words to warn.")
        return brain.too_long(goal.instruction) if brain else ""

    def _on_accepted(self, handle) -> None:
        accepted = Run(handle, self._now(), time.time_ns())
        accepted.unknown_words = self._brain.unknown_words(accepted.goal.instruction) if self._brain else []
        with self._news:
            if self._run:
                self._end(self._run, PREEMPTED)
            self._run = accepted
            self._announce(accepted)
            if not self.active:                         # deactivated since the goal was accepted
                self._end(accepted, DEACTIVATED)
            self._news.notify_all()
        self.get_logger().info(f"New goal: {accepted.goal.instruction!r}")
        if accepted.unknown_words:
            self.get_logger().warning(f"The policy was never trained on these words: {', '.join(accepted.unknown_words)}")
        handle.execute(functools.partial(self._execute, accepted))

    def _on_cancel(self, handle) -> CancelResponse:
        with self._lock:
            if self._run is None or self._run.handle != handle:
                return CancelResponse.REJECT            # it is over already
            self._end(self._run, CANCELED)
        return CancelResponse.ACCEPT

    # Goals: supervision and the end

    def _execute(self, run: Run, handle) -> ExecuteInstruction.Result:
        """The life of a goal, in a thread of the executor. Never raises: rclpy would answer with an empty result."""
        try:
            while not run.over.wait(SUPERVISION_PERIOD):
                self._supervise(run)
        except Exception as error:
            self.get_logger().error(traceback.format_exc())
            self._end(run, Ending(Code.UNKNOWN, "fault", f"vla_node failed inside: {sentence(error)}"))
        result = self._result(run)
        self._answer(run, result)
        run.answered.set()
        return result

    def _supervise(self, run: Run) -> None:
        """One look at the goal: holds the arm, lets it go on, or ends the goal."""
        with self._lock:
            if run.ending:
                return
            verdict = run.watch.check(self._view(run), self._limits(run.goal))
            if verdict.ending:
                self._end(run, verdict.ending)
            elif verdict.hold and not run.holding:
                self._publish_hold(run)
                self.get_logger().warning(verdict.why)
            run.holding, run.why = verdict.hold, verdict.why

    def _view(self, run: Run) -> View:
        self._poll()
        clock, steady, arm = self._now(), time.monotonic(), self._arm.sample
        return View(steady, clock - run.accepted, len(run.decisions), steady - run.last_step,
                    self._images.age(clock, steady), self._joint_states.age(clock, steady),
                    *((steady - arm.received, arm.message.code, arm.message.message) if arm else ()),
                    image_unchanged=run.picture.unchanged(steady), image_contrast=run.picture.contrast,
                    client_gone=self._client_gone(run, steady),
                    image_unread=run.picture.unread(steady), image_problem=run.picture.problem,
                    image_advice=self._image_advice(steady))

    def _client_gone(self, run: Run, steady: float) -> float:
        """For how long the goal's client has been gone [s]; looked at now and again, where somebody wants to know."""
        if self.values["goal.client_timeout"] and steady - run.client_seen > CLIENT_PERIOD:
            there = {bytes(info.endpoint_gid) for info in self.get_subscriptions_info_by_topic(FEEDBACK)}
            run.client_seen = steady
            run.client_gone = run.client.gone(there, steady - run.began, steady)
        return run.client_gone

    def _image_advice(self, steady: float) -> str:
        """What to do about images that do not come, where more is known than that."""
        sample = self._images.sample
        arrives = sample is not None and steady - sample.received < self.values["image.timeout"]
        return ("" if arrives else self._camera.why_silent()) or "check the publisher and its clock"

    def _limits(self, goal: ExecuteInstruction.Goal) -> Limits:
        value = self.values
        return Limits(goal.time_limit or value["goal.time_limit"], goal.step_limit or value["goal.step_limit"],
                      value["control_period"], value["image.timeout"], value["image.grace"],
                      value["joint_states.timeout"], value["joint_states.grace"], value["arm_status.grace"],
                      value["image.min_contrast"], value["goal.client_timeout"])

    def _end(self, run: Run, ending: Ending) -> None:
        """Ends the goal, if nobody did before: the arm holds at once, except where a newer goal moves it on."""
        with self._lock:
            if run.ending:
                return
            run.ending = ending
            if ending is not PREEMPTED:
                self._publish_hold(run)
            if self._run is run:
                self._run = None
                self._announce(None)
            run.over.set()

    def _announce(self, run: Run | None) -> None:
        """Tells who judges success which goal is running."""
        message = RunningGoal(goal_id=run.goal_id, instruction=run.goal.instruction) if run else RunningGoal()
        message.header.stamp = self.get_clock().now().to_msg()
        self._goal.publish(message)

    def _result(self, run: Run) -> ExecuteInstruction.Result:
        with self._lock:
            return ExecuteInstruction.Result(
                error_code=int(run.ending.code), error_msg=run.ending.message, termination_reason=run.ending.reason,
                steps=len(run.decisions), elapsed_time=max(0.0, self._now() - run.accepted),
                decode_summary=messages.decode_summary(run.decisions, self._decoder_name), unknown_words=run.unknown_words,
                not_judged=run.not_judged)

    @property
    def _decoder_name(self) -> str:
        return self._brain.name if self._brain else self.values["decoder.name"]

    def _answer(self, run: Run, result: ExecuteInstruction.Result) -> None:
        """Sets the goal's terminal state. canceled() is legal only once rclpy has noted the cancel request."""
        handle, ending = run.handle, run.ending
        if ending is CANCELED:
            deadline = time.monotonic() + 1.0
            while not handle.is_cancel_requested and time.monotonic() < deadline:
                time.sleep(0.001)
        if ending is SUCCESS:
            _terminate(handle.succeed, result)
        elif ending is CANCELED and handle.is_cancel_requested:
            _terminate(handle.canceled, result)
        else:
            _terminate(handle.abort, result)
        end = f"Goal ended after {result.steps} steps, {result.elapsed_time:.1f} s: {result.termination_reason}."
        if ending.reason == "fault":
            self.get_logger().warning(f"{end} {ending.message}")
        else:
            self.get_logger().info(end)

    # Inference

    def _infer(self, stopping: threading.Event) -> None:
        """The inference thread: the newest image only, one action per image and period."""
        while not stopping.is_set():
            run, image = self._next_work()
            if not run:
                continue
            try:
                self._step(run, image)
            except Exception as error:
                self.get_logger().debug(traceback.format_exc())
                self._end(run, inference_failed(sentence(error)))

    def _next_work(self) -> tuple[Run | None, Sample | None]:
        """A goal and an image that is due; otherwise waits for news and returns (None, None)."""
        with self._news:
            self._poll()
            run, image, steady = self._run, self._images.sample, time.monotonic()
            wait, look = math.inf, 0.1
            if run and len(run.decisions) < self._limits(run.goal).step_limit:
                self._supervise(run)
                if not run.ending:
                    wait, look = self._pacer.wait(image, steady, self.values["control_period"]), IMAGE_PERIOD
            if wait > 0.0:
                self._news.wait(min(wait, look))
                return None, None
            return run, image

    def _step(self, run: Run, image: Sample) -> None:
        started = time.monotonic()
        try:
            pixels = (compressed_to_rgb if self.values["image.compressed"] else to_rgb)(image.message)
        except ValueError as error:
            self._skip(run, image, str(error))
            return
        self._pacer.use(image, started, self.values["control_period"])
        with self._lock:
            self._look(run, pixels)
            if run.ending or run.holding:
                return
        if run.history is None:
            run.history = self._brain.begin()
        run.history.see(self._pose_at(image.stamp))
        decision = self._brain.decide(pixels, run.goal.instruction, run.history)
        with self._lock:
            self._supervise(run)            # the world may have changed while the model was thinking
            if not run.ending and not run.holding:
                self._publish_step(run, image, decision)

    def _skip(self, run: Run, image: Sample, problem: str) -> None:
        """An image that is no picture counts as one that did not come; holds when there are no others."""
        self._pacer.skip(image)
        self._undecodable += 1
        with self._lock:
            run.picture.miss(problem, time.monotonic())
            self._supervise(run)

    def _look(self, run: Run, pixels: np.ndarray) -> None:
        """Holds when the picture tells nothing of the world; called while holding too, to see when that is over."""
        joints = self._joint_states.sample
        positions = dict(zip(joints.message.name, joints.message.position)) if joints else {}
        run.picture.see(pixels, positions, self.values["image.frozen_motion"], time.monotonic())
        self._supervise(run)

    def _publish_step(self, run: Run, image: Sample, decision) -> None:
        source, step = image.message.header, len(run.decisions)
        source.frame_id = source.frame_id[:LONGEST_FRAME_ID]     # it goes out with every step
        if not Time.from_msg(source.stamp).nanoseconds:     # it counts from its arrival, for arm_node too
            source.stamp = Time(nanoseconds=round(1e9 * image.stamp)).to_msg()
        header = Header(stamp=source.stamp, frame_id=self.values["base_frame"])
        self._commands.publish(messages.command(decision, run.goal_id, step, header, self.values["control_period"]))
        run.decisions.append(decision)
        run.history.record(decision.bins)
        run.last_step = time.monotonic()
        self._recent.append((run.last_step, decision.timings_ms["total"]))
        report = messages.decode_step(decision, run.goal_id, step, source, self._now() - image.stamp)
        self._steps.publish(report)
        arm = self._arm.sample.message if self._arm.sample else ArmStatus()
        run.handle.publish_feedback(ExecuteInstruction.Feedback(
            step=len(run.decisions), elapsed_time=max(0.0, self._now() - run.accepted), decode=report,
            gripper=arm.gripper, gripper_message=arm.gripper_message, unknown_words=run.unknown_words,
            not_judged=run.not_judged))

    def _publish_hold(self, run: Run) -> None:
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self.values["base_frame"])
        self._commands.publish(messages.hold(run.goal_id, len(run.decisions), header))

    # Diagnostics

    def diagnose(self) -> tuple:
        recent, running, steady = list(self._recent), self._run, time.monotonic()
        age = self._images.age(self._now(), steady)
        where, camera = self.values["policy.remote"], self._camera
        values = {"state": self.state, "checkpoint": where or self.values["policy.checkpoint"],
                  "device": "remote" if where else self.values["policy.device"], "decoder": self._decoder_name,
                  "goal": running.goal.instruction if running else "none", "image age [s]": f"{age:.2f}",
                  "images not decoded": self._undecodable,
                  "image qos": camera.reliability if camera else "none",
                  "rate [Hz]": f"{sum(t > steady - 5.0 for t, _ in recent) / 5.0:.1f}"}
        if problem := self._camera_problem():
            return WARN, problem, values
        if not recent:
            return OK, self.state, values
        median, p95 = messages.latency([ms for _, ms in recent])
        values |= {"latency median [ms]": f"{median:.1f}", "latency p95 [ms]": f"{p95:.1f}"}
        period = 1e3 * self.values["control_period"]
        if p95 > period:
            return WARN, f"an action takes {p95:.0f} ms (p95), longer than control_period, {period:.0f} ms", values
        if running and running.holding:
            return WARN, running.why, values
        return OK, "executing a goal" if running else self.state, values


def _waited(info: dict) -> float:
    """For how long a message lay in the middleware [s], by the wall clock; 0 where the middleware does not know."""
    received = info["received_timestamp"] * 1e-9
    return max(0.0, time.time() - received) if received else 0.0


def _speaks_of(message: TaskSuccess, instruction: str) -> bool:
    """Whether what somebody says of success is about this instruction, however it is written."""
    return not message.instruction or normalized(message.instruction) == normalized(instruction)


def _terminate(transition, result) -> None:
    """Calls a goal handle's succeed, abort or canceled with the result where that rclpy takes one.

    Newer versions send whatever they are given, so without it an empty result; older ones take no argument.
    """
    transition(*([result] if inspect.signature(transition).parameters else []))


def main() -> int:
    """Entry point of the executable vla_node."""
    # Threads: the running goal and one that it preempts, a lifecycle transition, and three for everything else.
    return run_node(VlaNode, threads=6)


if __name__ == "__main__":
    sys.exit(main())
