# SPDX-License-Identifier: Apache-2.0
"""vla_node: camera image and instruction in, end-effector steps out, as the action server `execute_instruction`.

This file is the wiring: goals.py has what becomes of a goal, inference.py the thread that decides, inputs.py what is heard,
vla_parameters.py the parameters, assembly/ what decides.

Three kinds of threads: the executor's, one of which supervises the running goal; the inference thread, which decodes the
newest image and may take as long as it likes; and, ending everything, the main thread.
"""

import contextlib
import math
import sys
import threading
import time

from rclpy.action import ActionServer
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.parameter import Parameter
from std_msgs.msg import Empty
from vla_sd_msgs.action import ExecuteInstruction
from vla_sd_msgs.msg import DecodeStep, EndEffectorCommand, RunningGoal, TaskSuccess

from vla_sd_ros.assembly import Brain, bundle, free_memory, open_brain, warm_up
from vla_sd_ros.messages import decisions
from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.nodes import vla_parameters
from vla_sd_ros.nodes.goals import Goals
from vla_sd_ros.nodes.inference import Inference
from vla_sd_ros.nodes.inputs import Inputs, NodeClock
from vla_sd_ros.nodes.lifecycle import ManagedNode
from vla_sd_ros.nodes.parameters import OK, WARN
from vla_sd_ros.nodes.polling import PolledTime
from vla_sd_ros.nodes.process import run as run_node
from vla_sd_ros.watching.goal import DEACTIVATED
from vla_sd_ros.watching.inputs import Latest


class VlaNode(PolledTime, ManagedNode):
    """The lifecycle node; see the module's docstring."""

    TABLE = vla_parameters.TABLE

    def __init__(self, name: str = "vla_node", **options):
        self.brain: Brain | None = None  # decides; from configure to cleanup
        self._inference: Inference | None = None  # so long, too
        super().__init__(name, **options)
        self._clocks = NodeClock(self)
        self._inputs = Inputs(self, self._clocks)
        self._commands = self.create_publisher(EndEffectorCommand, "command", 1)
        self._steps = self.create_publisher(DecodeStep, "decode", 10)
        self._goals = Goals(
            self,
            self._clocks,
            self._inputs,
            commands=self._commands,
            announcements=self.create_publisher(RunningGoal, "goal", LATCHED),
        )
        # Its own group: the goal's callbacks come one after the other and wait for nothing else. What executes a goal is a
        # task outside any group, so it blocks none of them.
        self._server = ActionServer(
            self,
            ExecuteInstruction,
            "execute_instruction",
            execute_callback=lambda handle: None,
            handle_accepted_callback=self._goals.on_accepted,
            cancel_callback=self._goals.on_cancel,
            callback_group=MutuallyExclusiveCallbackGroup(),
            result_timeout=300,
        )

    # Lifecycle

    def configure(self) -> None:
        self.made.append(self._forget)
        self._load()
        self._subscribe()
        inference = self._inference = Inference(
            self, self._clocks, self._goals, self._inputs, commands=self._commands, steps=self._steps
        )
        self.made += [inference.join, self._end_goal, inference.stopping.set]
        inference.start()

    def _load(self) -> None:
        """Loads the model, or connects to it, tests it, and lets it decide twice. Raises with one sentence."""
        self._adopt()
        brain = open_brain(vla_parameters.where(self.values), vla_parameters.choice(self.values))
        self.made.append(brain.close)
        self.get_logger().info(brain.self_test())
        self.brain = brain  # from here on a change of a parameter reaches it
        choice = vla_parameters.choice(self.values)  # and what was changed while it was loaded counts as well
        brain.check(choice, ())
        brain.use(choice)
        warm_up(brain)

    def _adopt(self) -> None:
        """The decoder and settings of a bundle become the node's parameters, so that what is shown is what is done."""
        folder = self.values["policy.adapted"]
        if not folder:
            return
        if self.values["policy.remote"]:
            raise ValueError(
                "policy.adapted is for a policy that is loaded here: leave it or policy.remote empty; the server takes the bundle "
                "with vla-sd serve --adapted"
            )
        found = bundle.parameters(folder)
        if self.values["policy.unnorm_key"]:
            del found["policy.unnorm_key"]
        result = self.set_parameters_atomically([Parameter(name, value=value) for name, value in found.items()])
        if not result.successful:
            raise ValueError(f"the bundle {folder} has settings that do not fit: {result.reason}")
        self.get_logger().info(f"Decoder of the bundle {folder}: {found['decoder.name']}")

    def _subscribe(self) -> None:
        self.made.append(self._inputs.close)
        self._inputs.open()
        for kind, topic, callback, qos in (
            (TaskSuccess, "task_success", self._goals.on_success, LATCHED),
            (Empty, "scene_reset", self._goals.on_scene_reset, 1),
        ):
            self.create_subscription(kind, topic, callback, qos, callback_group=MutuallyExclusiveCallbackGroup())

    def activate(self) -> None:
        self._inputs.arm = Latest()  # an arm_node of the past is not missed

    def deactivate(self) -> None:
        self.state = "inactive"  # no new goal from here on
        if running := self._goals.end_running(DEACTIVATED):
            running.answered.wait(1.0)

    def _end_goal(self) -> None:
        """No motion from here on, and nothing that the inference thread waits for."""
        self._goals.end_running(DEACTIVATED)
        if self.brain:
            self.brain.close()

    def _forget(self) -> None:
        """The model and its thread."""
        self.brain = self._inference = None
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
            with contextlib.suppress(Exception):  # the hold goes out whatever a callback raises now
                if executor := self.executor:
                    executor.spin_once(timeout_sec=0.02)
            if not stopping.is_alive():
                end = min(end, time.monotonic() + 0.1)

    # Parameters

    def check(self, values: dict) -> None:
        """Refuses a change of the model while it is loaded, and an unknown decoder. ValueError with one sentence."""
        changed = {name for name, value in values.items() if value != self.values.get(name)}
        fixed = sorted(name for name in changed if name.startswith("policy.") and name not in vla_parameters.LIVE)
        if fixed and self.state != "unconfigured":
            raise ValueError(
                f"parameter '{fixed[0]}' can change only while {self.get_name()} is unconfigured; "
                "deactivate it and clean it up first"
            )
        choice, chosen = vla_parameters.choice(values), set(filter(vla_parameters.is_choice, changed))
        if chosen and self.brain:
            self.brain.check(choice, chosen)

    def apply(self, changed: set) -> None:
        if not self.brain or not any(map(vla_parameters.is_choice, changed)):
            return
        self.brain.use(vla_parameters.choice(self.values))  # effective at the next step
        if "policy.unnorm_key" in changed:
            self.get_logger().info(f"Action statistics: {self.values['policy.unnorm_key']}")

    @property
    def decoder_name(self) -> str:
        """Of the decoder in use, or the one that configure makes."""
        return self.brain.name if self.brain else self.values["decoder.name"]

    # Diagnostics

    def diagnose(self) -> tuple:
        running, inference, now, steady = self._goals.running, self._inference, self._clocks.now(), self._clocks.steady()
        recent = list(inference.recent) if inference else []
        where, camera = self.values["policy.remote"], self._inputs.camera
        values = {
            "state": self.state,
            "checkpoint": where or self.values["policy.checkpoint"],
            "device": "remote" if where else self.values["policy.device"],
            "decoder": self.decoder_name,
            "goal": running.goal.instruction if running else "none",
            "image age [s]": f"{self._inputs.images.age(now, steady):.2f}",
            "joint state age [s]": f"{self._inputs.joint_states.age(now, steady):.2f}",
            "images not decoded": inference.undecodable if inference else 0,
            "image qos": camera.reliability if camera else "none",
            "rate [Hz]": f"{sum(t > steady - 5.0 for t, _ in recent) / 5.0:.1f}",
        }
        if problem := self._inputs.camera_problem():
            return WARN, problem, values
        if not recent:
            return OK, self.state, values
        median, p95 = decisions.latency([ms for _, ms in recent])
        values |= {"latency median [ms]": f"{median:.1f}", "latency p95 [ms]": f"{p95:.1f}"}
        period = 1e3 * self.values["control_period"]
        if p95 > period:
            return WARN, f"an action takes {p95:.0f} ms (p95), longer than control_period, {period:.0f} ms", values
        if running and running.holding:
            return WARN, running.why, values
        return OK, "executing a goal" if running else self.state, values


def main() -> int:
    """Entry point of the executable vla_node."""
    # Threads: the running goal and one that it preempts, a lifecycle transition, and three for everything else.
    return run_node(VlaNode, threads=6)


if __name__ == "__main__":
    sys.exit(main())
