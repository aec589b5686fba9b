# SPDX-License-Identifier: Apache-2.0
"""The thread that decides: the newest image only, one action per image and period."""

import math
import threading
import traceback
from collections import deque
from typing import Any

import numpy as np
from std_msgs.msg import Header
from vla_sd_msgs.action import ExecuteInstruction

from vla_sd_ros.messages import decisions
from vla_sd_ros.nodes.goals import Goals, Run
from vla_sd_ros.nodes.inputs import Inputs, stamp_source
from vla_sd_ros.nodes.process import sentence
from vla_sd_ros.nodes.vla_parameters import goal_limits
from vla_sd_ros.watching.goal import inference_failed
from vla_sd_ros.watching.inputs import Clock, Pacer, Sample

IMAGE_PERIOD = 0.005  # s, between two looks for a new image while a goal waits for one


class Inference:
    """From start() until `stopping` is set, which the goals' `news` should tell of; one object for each start."""

    def __init__(self, node: Any, clock: Clock, goals: Goals, inputs: Inputs, commands: Any, steps: Any):
        """node: with `values`, `brain` and a logger. commands: a publisher of EndEffectorCommand; steps: of DecodeStep."""
        self._node, self._clock, self._goals, self._inputs = node, clock, goals, inputs
        self._commands, self._steps = commands, steps
        self._pacer = Pacer()
        self.recent: deque = deque(maxlen=100)  # (steady time, latency [ms]) of the newest actions
        self.undecodable = 0  # images of which no picture could be made
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        """Start the thread; once for each object."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end; the process's own deadline bounds this at shutdown."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self.stopping.is_set():
            work = self._next_work()
            if work is None:
                continue
            run, image = work
            try:
                self._step(run, image)
            except Exception as error:
                self._node.get_logger().debug(traceback.format_exc())
                self._goals.end(run, inference_failed(sentence(error)))

    def _next_work(self) -> tuple[Run, Sample] | None:
        """A goal and an image that is due; otherwise waits for news and returns None."""
        goals, period = self._goals, self._node.values["control_period"]
        with goals.news:
            self._inputs.poll()
            run, image, steady = goals.running, self._inputs.images.sample, self._clock.steady()
            wait, look = math.inf, 0.1
            if run and len(run.decisions) < goal_limits(run.goal, self._node.values).step_limit:
                goals.supervise(run)
                if not run.ending:
                    wait, look = self._pacer.wait(image, steady, period), IMAGE_PERIOD
            if run is None or image is None or wait > 0.0:  # without an image there is nothing but to wait
                goals.news.wait(min(wait, look))
                return None
            return run, image

    def _step(self, run: Run, image: Sample) -> None:
        goals, started = self._goals, self._clock.steady()
        try:
            pixels = self._inputs.picture(image)
        except ValueError as error:
            self._skip(run, image, str(error))
            return
        period = self._node.values["control_period"]
        late = self._pacer.late(image, started, period)
        self._pacer.use(image, started, period)
        with goals.lock:
            self._look(run, pixels)
            if run.ending or run.holding:
                return
        brain = self._node.brain
        if run.record is None:
            run.record = brain.begin()
        if late:
            run.record.interrupt()
        run.record.see(self._inputs.pose_at(image.stamp))
        decision = brain.decide(pixels, run.goal.instruction, run.record)
        with goals.lock:
            goals.supervise(run)  # the world may have changed while the model was thinking
            if not run.ending and not run.holding:
                self._publish(run, image, decision)

    def _skip(self, run: Run, image: Sample, problem: str) -> None:
        """An image that is no picture counts as one that did not come; holds when there are no others."""
        self._pacer.skip(image)
        self.undecodable += 1
        with self._goals.lock:
            run.picture.miss(problem, self._clock.steady())
            self._goals.supervise(run)

    def _look(self, run: Run, pixels: np.ndarray) -> None:
        """Holds when the picture tells nothing of the world; called while holding too, to see when that is over."""
        motion = self._node.values["image.frozen_motion"]
        run.picture.see(pixels, self._inputs.joint_positions(), motion, self._clock.steady())
        self._goals.supervise(run)

    def _publish(self, run: Run, image: Sample, decision: Any) -> None:
        """The command, and what is told of it."""
        source, step, values = stamp_source(image), len(run.decisions), self._node.values
        header = Header(stamp=source.stamp, frame_id=values["base_frame"])
        self._commands.publish(decisions.command(decision, run.goal_id, step, header, values["control_period"]))
        run.decisions.append(decision)
        run.record.record(decision.bins)
        run.last_step = self._clock.steady()
        self.recent.append((run.last_step, decision.timings_ms["total"]))
        report = decisions.decode_step(decision, run.goal_id, step, source, self._clock.now() - image.stamp)
        self._steps.publish(report)
        arm = self._inputs.arm_status()
        run.handle.publish_feedback(
            ExecuteInstruction.Feedback(
                step=len(run.decisions),
                elapsed_time=max(0.0, self._clock.now() - run.accepted),
                decode=report,
                gripper=arm.gripper,
                gripper_message=arm.gripper_message,
                unknown_words=run.unknown_words,
                not_judged=run.not_judged,
            )
        )
