# SPDX-License-Identifier: Apache-2.0
"""`vla-sd demo`: simulator, arm_node and vla_node as processes, one goal through the ordinary action, and a report.

What launch/sim.launch.py does on a ROS installation, for a machine without `launch`: the same nodes, the same YAML.
"""

import argparse
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from vla_sd_ros import inputs, parameter_files
from vla_sd_ros.checkpoint_places import refuse_unusable
from vla_sd_ros.environment import LAST_DOMAIN, check_environment, start_ros
from vla_sd_ros.inputs import BadInput
from vla_sd_ros.node_names import DISCOVERY, namesakes
from vla_sd_ros.supervisor import ChildEnded, Interrupted, Supervisor

NODES = ("sim_node", "arm_node", "vla_node")
MANAGED = ("arm_node", "vla_node")
STARTUP_TIMEOUT = 180.0  # [s], for each stage of the start; the first start on a machine reads everything from disk
RECORDED_TAIL = 1.2  # [s] recorded after the goal: the arm comes to rest, one more status of sim_node
ELSEWHERE = ("ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER")  # nodes beyond this machine, whatever the domain
DOMAINS = range(1, 100)  # the ports of higher ones collide with Linux's ephemeral ports


class StartupFailed(Exception):
    """The goal never began; the message is one sentence."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--suite", help="LIBERO suite; default: that of the parameter file")
    parser.add_argument("--task", type=inputs.whole(0, 9), help="index of the task, 0..9")
    parser.add_argument("--initial-state", type=inputs.whole(0, 49), help="index of the initial state, 0..49")
    parser.add_argument("--seed", type=inputs.whole(0, 2**31 - 1), help="seed that shifts the objects; 0: none")
    parser.add_argument("--checkpoint", help="policy: ./directory, or a shipped one; default: that of the parameter file")
    parser.add_argument("--adapted", type=inputs.path, help="bundle of vla-sd adapt for the policy")
    parser.add_argument("--instruction", type=inputs.instruction, help="the sentence; default: the task's own")
    parser.add_argument("--params", type=inputs.path, metavar="FILE", help="parameters; default: the installed config/sim.yaml")
    parser.add_argument("--namespace", type=inputs.namespace, default="vla", help="namespace of the nodes")
    parser.add_argument(
        "--domain-id", type=inputs.whole(0, LAST_DOMAIN), help="ROS domain; default: one that nobody on this machine uses"
    )
    parser.add_argument("--output-dir", type=inputs.path, default=Path("runs"), help="folder for the runs' reports")
    parser.add_argument("--time-limit", type=inputs.seconds, default=0.0, help="limit of the goal [s]; 0: the node's own")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: success. 1: the task failed. 2: the goal never began. 130, 143: stopped by SIGINT, SIGTERM."""
    folder = arguments.output_dir
    try:
        environment = prepare_environment(arguments.domain_id)
        check_environment()
        parameters = parameter_file(arguments.params)
        refuse_wrong(arguments, parameters)
        folder = new_run_folder(arguments.output_dir)
        with Supervisor(environment, folder / "logs") as supervisor:
            outcome = Demo(arguments, supervisor, parameters, folder).run()
    except StartupFailed as error:
        print(f"vla-sd demo: {error}", file=sys.stderr)
        if (folder / "logs").is_dir() and any((folder / "logs").iterdir()):
            print(f"The processes' own words are in {folder / 'logs'}.", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(f"vla-sd demo: {error} before the goal began", file=sys.stderr)
        return 128 + error.number
    print("writing the report ...", flush=True)
    from vla_sd_ros.report.summary import write_report

    try:
        summary = write_report(folder, outcome)
    except KeyboardInterrupt:
        print(f"vla-sd demo: stopped before the report was complete; vla-sd report {folder} makes it", file=sys.stderr)
        raise
    for sentence in summary["missing"]:
        print(f"report: {sentence}", file=sys.stderr)
    print(result_line(summary, folder))
    return outcome["exit_code"]


def result_line(summary: dict, folder: Path) -> str:
    """The last line that the demo prints, for people and scripts."""
    latency = (summary.get("latency_ms") or {}).get("median")
    figures = {
        "success": str(summary["success"]).lower(),
        "steps": summary["steps"],
        "elapsed": f"{summary['elapsed']:.1f}",
        "latency_median_ms": f"{latency:.1f}" if latency else "none",
        "realtime": f"{summary['realtime']:.2f}" if summary["realtime"] else "none",
        "report": folder,
    }
    return "RESULT " + " ".join(f"{key}={value}" for key, value in figures.items())


class SimulatedSystem:
    """Simulator and nodes, from their start to their end; derived classes say what is executed with them.

    Every wait checks for signals and for children that ended. arguments: those of add_arguments(), at least namespace, suite,
    task, initial_state, seed, checkpoint and instruction.
    """

    CLIENT = "vla_sd_demo"  # the name of this process's node

    def __init__(self, arguments: argparse.Namespace, supervisor: Supervisor, parameters: Path):
        self.arguments = arguments
        self._supervisor, self._parameters = supervisor, parameters
        self._instruction = arguments.instruction
        self._scene = None  # the newest SceneStatus of sim_node

    def run(self) -> Any:
        """Start, execute, stop everything; returns what execute() does. Raises StartupFailed."""
        start_ros()
        import rclpy

        from vla_sd_ros.client import InstructionClient

        self.client = InstructionClient(self.arguments.namespace, self.CLIENT)
        try:
            self._start()
            return self.execute()
        finally:
            self._supervisor.stop(name for name in self._supervisor.children if name != "recorder")
            self._supervisor.stop()  # the recorder last: it hears the others to the end
            self.client.close()
            rclpy.try_shutdown()

    def execute(self) -> Any:
        """Override: what is done with the active nodes, and what run() returns."""
        raise NotImplementedError

    def while_loading(self) -> None:
        """Override: what is done while the model is loading and the simulator runs already."""

    def _start(self) -> None:
        began = time.monotonic()
        say(f"starting {', '.join(NODES)} in ROS domain {os.environ['ROS_DOMAIN_ID']} ...")
        try:
            self._refuse_others(expected=0, within=DISCOVERY)
            for node in NODES:
                self._supervisor.start(node, self._command(node))
            self._listen()
            self._activate()
        except ChildEnded as error:
            raise StartupFailed(str(error)) from error
        say(f"ready after {time.monotonic() - began:.0f} s")

    def _refuse_others(self, expected: int, within: float = 0.0) -> None:
        """StartupFailed where others than ours have these names; see `namesakes`."""
        if there := namesakes(self.client, NODES, expected, within, self._supervisor.check):
            raise StartupFailed(
                f"in ROS domain {os.environ['ROS_DOMAIN_ID']} there is {' and '.join(there)} that the demo did not start; leave "
                "--domain-id out for a domain of the demo's own, or give another one"
            )

    def _command(self, node: str) -> list[str]:
        """The command line of a node; what the command line sets comes last and wins over the file."""
        return node_command(node, self.arguments.namespace, overrides(self.arguments)[node], self._parameters)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Raises StartupFailed when the condition does not come true."""
        wait(self.client, self._supervisor, condition, what)

    def _listen(self) -> None:
        from std_msgs.msg import String
        from vla_sd_msgs.msg import SceneStatus

        from vla_sd_ros.messages.qos import LATCHED

        self.client.node.create_subscription(String, "task_instruction", self._on_instruction, LATCHED)
        self.client.node.create_subscription(SceneStatus, "sim_node/status", self._on_scene, LATCHED)

    def _on_instruction(self, message) -> None:
        self._instruction = self._instruction or message.data

    def _on_scene(self, message) -> None:
        self._scene = message

    def _activate(self) -> None:
        """Configure and activate through the lifecycle services, as a lifecycle manager would."""
        from lifecycle_msgs.srv import ChangeState
        from rclpy.client import Client

        clients: dict[str, Client] = {node: self.client.node.create_client(ChangeState, f"{node}/change_state") for node in MANAGED}
        for node, service in clients.items():
            self.wait(service.service_is_ready, f"{node} to come up")
        for label in ("configure", "activate"):
            # The services that are ready may be another arm_node's while ours is not yet discovered, on a loaded machine.
            self._refuse_others(expected=1, within=DISCOVERY if label == "configure" else 0.0)
            if label == "activate":  # the model is loading meanwhile
                self.wait(lambda: self._instruction and self._scene, "sim_node to simulate")
                self.while_loading()
            request = ChangeState.Request()
            request.transition.label = label
            answers = {node: service.call_async(request) for node, service in clients.items()}
            for node, answer in answers.items():
                self.wait(answer.done, f"{node} to {label}")
                if not (response := answer.result()) or not response.success:
                    raise StartupFailed(f"{node} did not {label}: {self._supervisor.children[node].sentence()}")


class Demo(SimulatedSystem):
    """One goal, recorded."""

    def __init__(self, arguments: argparse.Namespace, supervisor: Supervisor, parameters: Path, folder: Path):
        super().__init__(arguments, supervisor, parameters)
        self.folder = folder

    def while_loading(self) -> None:
        start_recorder(self.client, self._supervisor, self.folder / "episode", self._parameters)

    def execute(self) -> dict:
        """The outcome, for the report."""
        from vla_sd_ros.client import GoalRejected
        from vla_sd_ros.send import execute

        outcome = self._description() | {"success": False, "steps": 0, "elapsed": 0.0, "exit_code": 1}
        begin, began = self._scene, time.monotonic()
        say(f'"{self._instruction}"')
        try:
            result = execute(self.client, self._instruction, self._supervisor.check, self.arguments.time_limit)
            outcome |= {
                "steps": result.steps,
                "elapsed": round(result.elapsed_time, 3),
                "error_code": result.error_code,
                "termination_reason": result.termination_reason,
                "error_msg": result.error_msg,
                "success": result.error_code == result.NONE,
            }
            outcome["exit_code"] = 0 if outcome["success"] else 1
            linger(self.client, self._supervisor, RECORDED_TAIL)
        except (GoalRejected, TimeoutError) as error:
            raise StartupFailed(str(error)) from error
        except (ChildEnded, ConnectionError, Interrupted) as error:
            feedback = self.client.feedback
            outcome |= {
                "termination_reason": "fault",
                "error_msg": str(error),
                "elapsed": round(time.monotonic() - began, 3),
                "steps": feedback.step if feedback else 0,
            }
            if isinstance(error, Interrupted):
                outcome |= {"termination_reason": "interrupted", "exit_code": 128 + error.number}
        say(f"{outcome['termination_reason']} after {outcome['steps']} steps. {outcome['error_msg']}".strip())
        outcome["realtime"] = ratio(begin, self._scene)
        if outcome["realtime"]:
            say(f"simulated time / wall time: {outcome['realtime']:.3f}")
        return outcome

    def _description(self) -> dict:
        a = self.arguments
        return {
            "instruction": self._instruction,
            **{name: getattr(self._scene, name) for name in ("suite", "task", "initial_state", "seed")},
            "parameters": str(a.params) if a.params else "config/sim.yaml",
            "namespace": a.namespace,
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        }


def overrides(a: argparse.Namespace) -> dict[str, dict]:
    """What the command line sets of each node's parameters; None: nothing."""
    return {
        "sim_node": {"suite": a.suite, "task": a.task, "initial_state": a.initial_state, "seed": a.seed},
        "arm_node": {"autostart": False},
        "vla_node": {"autostart": False, "policy.checkpoint": a.checkpoint, "policy.adapted": a.adapted and str(a.adapted)},
    }


def refuse_wrong(arguments: argparse.Namespace, parameters: Path) -> None:
    """Raises BadInput for what a node would refuse as it starts, before any is started."""
    from vla_sd_ros.nodes import tables

    try:
        sections, namespace = parameter_files.read(parameters), arguments.namespace.strip("/")
        for node, values in overrides(arguments).items():
            given = parameter_files.values_of(sections, f"/{namespace}/{node}")
            given |= {name: value for name, value in values.items() if value is not None}
            tables.refuse_wrong(node, given)
            if node == "vla_node" and not given.get("policy.remote"):
                refuse_unusable(str(given.get("policy.checkpoint", inputs.CHECKPOINT)), real_arm=False)
    except ValueError as error:
        raise BadInput(str(error)) from error


def node_command(module: str, namespace: str, values: dict, parameters: Path | None = None) -> list[str]:
    """The command line of a node; its values, but None, come last and win over the parameter file.

    rcl reads them as YAML: text is quoted, so that it is nothing else, whatever is in it.
    """
    file = ["--params-file", str(parameters)] if parameters else []
    pairs = [part for name, value in values.items() if value is not None for part in ("-p", f"{name}:={yaml(value)}")]
    return [sys.executable, "-m", "vla_sd_ros.nodes", module, "--ros-args", "-r", f"__ns:=/{namespace.strip('/')}", *file, *pairs]


def yaml(value: object) -> str:
    """A value as YAML has it, which knows what JSON writes; paths as text."""
    return json.dumps(value, default=str, ensure_ascii=False)


def start_recorder(client, supervisor: Supervisor, folder: Path, parameters: Path | None = None) -> None:
    """Record the topics of the client's namespace into a bag, as the child "recorder"; returns when it does."""
    from std_msgs.msg import Bool

    from vla_sd_ros.messages.qos import LATCHED

    recording: list = []
    told = client.node.create_subscription(Bool, "recorder/recording", recording.append, LATCHED)
    supervisor.start("recorder", node_command("recorder", client.node.get_namespace(), {"folder": folder}, parameters))
    try:
        wait(client, supervisor, lambda: recording, "the recorder")
    finally:
        client.node.destroy_subscription(told)


def wait(client, supervisor: Supervisor, condition: Callable[[], object], what: str) -> None:
    """Until the condition holds; StartupFailed when it does not, and what supervisor.check() raises."""
    deadline = time.monotonic() + STARTUP_TIMEOUT
    while not client.spin_until(condition, 0.1):
        supervisor.check()
        if time.monotonic() > deadline:
            raise StartupFailed(f"waited {STARTUP_TIMEOUT:.0f} s in vain for {what}")


def linger(client, supervisor: Supervisor, duration: float) -> None:
    """Listen on for a time [s], less where a signal comes."""
    end = time.monotonic() + duration
    client.spin_until(lambda: supervisor.signal or time.monotonic() > end, duration)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def ratio(begin, end) -> float | None:
    """Simulated time / wall time between two SceneStatus; None when there was less than a second."""
    simulated, wall = end.simulated_time - begin.simulated_time, end.wall_time - begin.wall_time
    return round(simulated / wall, 4) if wall >= 0.9 else None


def new_run_folder(output: Path) -> Path:
    """A new folder named for the time, with logs/ in it. Raises BadInput where it cannot be made."""
    from vla_sd_ros.runs import new_run_folder as new_run

    folder = new_run(output)
    (folder / "logs").mkdir()
    return folder


def parameter_file(given: Path | None) -> Path:
    """The given parameter file, or the installed config/sim.yaml. Raises BadInput when it is not there."""
    if given is not None:
        if not given.is_file():
            raise BadInput(f"there is no parameter file {given}")
        return given
    from vla_sd_ros.ament import share

    try:
        return share("config", "sim.yaml")
    except FileNotFoundError as error:
        raise BadInput(str(error)) from error


def prepare_environment(domain: int | None) -> dict[str, str]:
    """Set what ROS and the libraries read, for this process and its children; returns the children's environment.

    domain: None for one of the demo's own, on this machine alone, whatever the shell says: in the shell's domain there may
    be a real arm, and a domain that is free here may be in use on another machine.
    """
    from vla_sd_ros.ament import use_wheel_prefix

    use_wheel_prefix()
    if domain is None:
        os.environ |= {"ROS_DOMAIN_ID": str(free_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        for name in ELSEWHERE:
            os.environ.pop(name, None)
    else:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    import vla_sd_ros.sim  # noqa: F401  (sets and checks MUJOCO_GL)

    # Inference takes one core; with more threads each, the processes would fight for what is left.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return dict(os.environ, PYTHONUNBUFFERED="1")


def in_use(domain: int) -> bool:
    """Whether a process on this machine is in the ROS domain: somebody has its discovery port (RTPS 9.6.1.1)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 7400 + 250 * domain))
        except OSError:
            return True
    return False


def free_domain() -> int:
    """A ROS domain that no process on this machine is in."""
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        if not in_use(domain):
            return domain
    raise BadInput("every ROS domain from 1 to 99 is in use; name one with --domain-id")
