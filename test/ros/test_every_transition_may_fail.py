# SPDX-License-Identifier: Apache-2.0
"""A transition that fails, at whatever line of it, leaves nothing: the next configure finds the node as the first one did.

The failure is an exception at one line after the other of the transition in nodes/, arms/ and assembly/, by a trace function.
"""

import gc
import itertools
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import rclpy
from processes import Domain, in_a_process
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

import vla_sd_ros
from vla_sd_ros.nodes.arm_node import ArmNode
from vla_sd_ros.nodes.vla_node import VlaNode

PACKAGE = Path(vla_sd_ros.__file__).parent
MACHINERY = [PACKAGE / "nodes" / name for name in ("lifecycle.py", "parameters.py", "process.py")]  # not under test here


class Injected(RuntimeError):
    """The failure."""


class FailAtLine:
    """Raises Injected at the nth line of nodes/, arms/ and assembly/ that this thread runs for the first time."""

    def __init__(self, nth: int):
        self._left, self._seen, self.raised = nth, set(), False

    def __enter__(self) -> "FailAtLine":
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame, event, argument):
        path = Path(frame.f_code.co_filename)
        ours = path.parent in (PACKAGE / "nodes", PACKAGE / "arms", PACKAGE / "assembly") and path not in MACHINERY
        return self._line if ours and not self.raised else None

    def _line(self, frame, event, argument):
        where = frame.f_code.co_filename, frame.f_lineno
        if event != "line" or where in self._seen or self.raised:
            return self._line
        self._seen.add(where)
        self._left -= 1
        if self._left < 0:
            self.raised = True
            raise Injected(f"{where[0]}:{where[1]}")
        return self._line


def picture(node) -> dict:
    """What a node is made of: in the graph, in this process, in memory."""
    name, space = node.get_name(), node.get_namespace()
    for thread in threading.enumerate():
        if thread.name == "inference" and node.state == "unconfigured":
            thread.join(1.0)  # where it was the wait for its end that failed
    gc.collect()
    return {
        "publishers": node.get_publisher_names_and_types_by_node(name, space),
        "subscriptions": node.get_subscriber_names_and_types_by_node(name, space),
        "services": node.get_service_names_and_types_by_node(name, space),
        "clients": node.get_client_names_and_types_by_node(name, space),
        "entities": Counter(type(entity).__name__ for entity in node._entities()),
        "threads": Counter(thread.name for thread in threading.enumerate()),
        "models": sum(type(thing).__name__ in ("Vla", "VlaModel") for thing in gc.get_objects()),
        "frozen": gc.get_freeze_count() > 0,
    }


class Trial:
    """One node, of which every transition is failed at every line and then repeated."""

    def __init__(self, make, **parameters):
        self.context, self.domain, self.problems, self.failures = Context(), Domain(), [], 0
        rclpy.init(context=self.context, domain_id=self.domain.id, signal_handler_options=SignalHandlerOptions.NO)
        overrides = [rclpy.parameter.Parameter(name, value=value) for name, value in parameters.items()]
        self.make = partial(make, make.__name__, context=self.context, namespace="/vla", parameter_overrides=overrides)

    def run(self, stride: int = 1, settle=lambda: None) -> dict:
        """stride: fail at each so many lines. settle: called once all is loaded."""
        node = self.make()
        for _ in range(2):  # what the first pass loads for good is no leak
            node.trigger_configure(), node.trigger_activate()
            inactive = self._after(node, "deactivate")
            unconfigured = self._after(node, "cleanup")
            settle()
        for transition, before, reached in (
            ("configure", unconfigured, "unconfigured"),
            ("activate", inactive, "inactive"),
            ("deactivate", unconfigured, "unconfigured"),
            ("cleanup", unconfigured, "unconfigured"),
        ):
            for nth in itertools.count(0, stride):
                self._ready(node, transition)
                with FailAtLine(nth) as failure:
                    getattr(node, f"trigger_{transition}")()
                if not failure.raised:
                    break
                self.failures += 1
                # A step of cleanup that fails is not done: here the one that forgets the model.
                self._compare(
                    f"{transition} failed at line {nth}", node, before, reached, but="models" if transition == "cleanup" else ""
                )
            self._ready(node, "activate")
            self._compare(f"configured after a failed {transition}", node, inactive, "inactive")
        node.destroy_node()
        for state in ("unconfigured", "inactive", "active"):
            self._shut_down(state)
        self.context.try_shutdown()
        self.domain.release()
        return {"problems": self.problems, "failures": self.failures}

    def _after(self, node, transition: str) -> dict:
        getattr(node, f"trigger_{transition}")()
        return picture(node)

    def _ready(self, node, transition: str) -> None:
        """Into the state from which the transition leads."""
        wanted = {"configure": "unconfigured", "activate": "inactive", "deactivate": "active", "cleanup": "inactive"}[transition]
        steps = {
            ("unconfigured", "inactive"): ["configure"],
            ("unconfigured", "active"): ["configure", "activate"],
            ("inactive", "active"): ["activate"],
            ("inactive", "unconfigured"): ["cleanup"],
            ("active", "inactive"): ["deactivate"],
            ("active", "unconfigured"): ["deactivate", "cleanup"],
        }
        for step in steps.get((node.state, wanted), []):
            getattr(node, f"trigger_{step}")()

    def _compare(self, what: str, node, expected: dict, state: str, but: str = "") -> None:
        if (node.state, node._state_machine.current_state[1]) != (state, state):
            self.problems.append(f"{what}: {node.state}, for rclpy {node._state_machine.current_state[1]}, not {state}")
        now = picture(node)
        self.problems += [
            f"{what}: {key} are {now[key]}, not {expected[key]}" for key in now if now[key] != expected[key] and key != but
        ]

    def _shut_down(self, state: str) -> None:
        node = self.make()
        bare = picture(node)
        for step in {"inactive": ["configure"], "active": ["configure", "activate"]}.get(state, []):
            getattr(node, f"trigger_{step}")()
        node.trigger_shutdown()
        now = picture(node)
        if node._state_machine.current_state[1] != "finalized" or now["entities"] != bare["entities"]:
            self.problems.append(f"shut down from {state}: {node._state_machine.current_state[1]}, {now['entities']}")
        node.destroy_node()


def arm_trial(parameters: dict, stride: int) -> dict:
    import standins

    standins.use()
    return Trial(ArmNode, **parameters).run(stride)


def vla_trial(parameters: dict) -> dict:
    return Trial(VlaNode, **parameters).run(2, settle=gc.freeze)  # looking through all of torch takes a third of a second


@pytest.mark.parametrize(
    "parameters, stride",
    [
        (
            {
                "arm.interface": "servo_pose",
                "arm.tip_link": "panda_tcp",
                "gripper.interface": "franka",
                "controller.name": "arm_controller",
                "controller.recovery_action": "action_server/error_recovery",
            },
            1,
        ),
        ({"arm.interface": "interbotix_joint_group", "gripper.interface": "interbotix_joint_single"}, 1),
        ({"arm.interface": "pose_target", "gripper.interface": "topic"}, 1),
        # Most of the lines are those of the others.
        ({"arm.interface": "joint_trajectory", "gripper.interface": "gripper_command"}, 2),
        ({"arm.interface": "servo_twist", "arm.tip_link": "panda_tcp", "gripper.interface": "parallel_gripper_command"}, 2),
    ],
    ids=["servo, franka, controllers", "interbotix", "target, topic", "trajectory, gripper", "twist, parallel gripper"],
)
def test_arm_node(parameters, stride):
    told = in_a_process(partial(arm_trial, parameters, stride))
    assert told["problems"] == [] and told["failures"] > 60 / stride


def test_vla_node(checkpoint):
    told = in_a_process(partial(vla_trial, {"policy.checkpoint": str(checkpoint), "policy.threads": 1}))
    assert told["problems"] == [] and told["failures"] > 40
