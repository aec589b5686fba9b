# SPDX-License-Identifier: Apache-2.0
"""~/recover of arm_node: bring the robot back after a fault of its own, when somebody asks for it, never by itself."""

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from rclpy.task import Future
from std_srvs.srv import Trigger

from vla_sd_ros.nodes.answers import answering_later
from vla_sd_ros.nodes.process import sentence


class Recovery:
    """Of a node with `controller`, `controllers` and `arm`; it is answered once the robot has been asked."""

    def __init__(self, node: Any):
        self._node = node
        self._steps: Generator[None, None, None] | None = None  # of the recovery under way
        # For as long as the node lives: it may be cleaned up while the answer is under way.
        answering_later(node.create_service(Trigger, "~/recover", self.ask))

    def ask(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response | Future:
        """Begin, and answer later; at once where there is nothing to be done, or it cannot be done now."""
        node, problem = self._node, ""
        blocked = node.state != "unconfigured" and (node.controller.ran_away or node.arm_state.lost)
        if blocked and (node.values["dry_run"] or not node.controllers.known):
            if not (problem := node.arm_state.vouch()):
                node.controller.recover()
        elif node.state == "unconfigured" or node.values["dry_run"]:
            problem = "arm_node is not configured, or dry_run: it sends nothing to the robot"
        elif self._steps is not None:
            problem = "a recovery is under way"
        elif not node.controller.at_rest:
            problem = "the arm moves: cancel the goal first"
        else:
            answer: Future = Future()
            self._steps = self._bring_back(response, answer)
            self.go_on()
            return answer
        return self._answer(response, problem)

    def go_on(self) -> None:
        """The next step of the recovery under way, if there is one; after each look at the controllers."""
        over = True
        if self._steps is not None and next(self._steps, over):
            self._steps = None

    def give_up(self) -> None:
        """The node is cleaned up: who waits for the answer is told so."""
        steps, self._steps = self._steps, None
        if steps is not None:
            with suppress(StopIteration):
                steps.throw(RuntimeError("the node was cleaned up, and the recovery with it"))

    def _bring_back(self, response: Trigger.Response, answer: Future) -> Generator[None, None, None]:
        """Recover step by step, then answer."""
        node = self._node
        try:
            problem = node.arm_state.vouch() if node.controllers.known else ""  # the way back may need the measured pose
            problem = problem or (
                yield from node.controllers.recover(
                    lambda: node.controller.measured_is_fresh(time.monotonic()), lambda: node.arm.leave(node.controller.measured)
                )
            )
            node.watch_controllers()
            if not problem:
                node.controller.recover()
        except Exception as error:
            problem = sentence(error)
        answer.set_result(self._answer(response, problem))

    def _answer(self, response: Trigger.Response, problem: str) -> Trigger.Response:
        response.success, response.message = not problem, problem or "the next goal may begin, from where the arm is"
        self._node.get_logger().info(f"~/recover: {response.message}")
        return response
