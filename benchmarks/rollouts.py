# SPDX-License-Identifier: Apache-2.0
"""What an owner of an arm gets from rollouts alone: goals of a policy without draft head, drafter and database, recorded as
`vla-sd record` does; `vla-sd adapt` from these recordings; its decoder beside the shipped one, from held-out states.

    python benchmarks/rollouts.py work --json benchmarks/results/rollouts.json

Run again, it goes on where it ended. The arm is the simulated one of `vla-sd demo`, in real time; states of training, six goals
for each of ten tasks. Success comes from task_success; goals that fail are recorded too, and left out by adapt.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from vla_sd_ros.demo import SimulatedSystem, linger, node_command, parameter_file, prepare_environment, refuse_wrong, say, wait
from vla_sd_ros.environment import check_environment
from vla_sd_ros.inputs import CHECKPOINT
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.supervisor import Supervisor

ACCELERATORS = ("draft_head.safetensors", "drafter.safetensors", "database")
SETTLED = 0.6  # s after a reset: the camera and the arm's pose are of the new scene
RECORDED = 2.0  # s after a goal, in which its bag is closed
COMMAND = [sys.executable, "-m", "vla_sd_ros.cli"]


class Rollouts(SimulatedSystem):
    """Goals of the policy from states of training, each recorded by goal_recorder."""

    def __init__(self, arguments: argparse.Namespace, supervisor: Supervisor, runs: Path, tasks: int, goals: int, limit: float):
        super().__init__(arguments, supervisor, parameter_file(None))
        self._runs, self._tasks, self._goals, self._limit = runs, tasks, goals, limit

    def execute(self) -> dict:
        """How many goals succeeded, of how many."""
        from vla_sd_msgs.srv import ResetScene

        self._reset = self.client.node.create_client(ResetScene, "sim_node/reset")
        self._supervisor.start(
            "goal_recorder",
            node_command("goal_recorder", self.client.node.get_namespace(), {"folder": self._runs, "patience": 0.0}),
        )
        results = [
            self._goal(ResetScene.Request(task=task, initial_state=state))
            for state in range(self._goals)
            for task in range(self._tasks)
        ]
        return {"goals": len(results), "successes": sum(results)}

    def _goal(self, request) -> bool:
        wait(self.client, self._supervisor, self._reset.service_is_ready, "sim_node")
        answer = self._reset.call_async(request)
        wait(self.client, self._supervisor, answer.done, "the scene")
        linger(self.client, self._supervisor, SETTLED)
        self.client.start(answer.result().instruction, self._limit)
        while not self.client.is_complete(timeout=0.1):
            self._supervisor.check()
        result = self.client.result(10.0)
        linger(self.client, self._supervisor, RECORDED)
        say(f"task {request.task} state {request.initial_state}: {result.termination_reason} after {result.steps} steps")
        return result.error_code == result.NONE


def bare(shipped: Path, to: Path) -> Path:
    """The policy's weights alone."""
    shutil.copytree(shipped, to, ignore=shutil.ignore_patterns(*ACCELERATORS), dirs_exist_ok=True)
    return to


def roll_out(work: Path, policy: Path, arguments: argparse.Namespace) -> dict:
    """Record the goals, once."""
    done = work / "rollouts.json"
    if not done.exists():
        shutil.rmtree(work / "runs", ignore_errors=True)
        scene = argparse.Namespace(
            namespace="vla",
            suite=arguments.suite,
            task=0,
            initial_state=0,
            seed=0,
            checkpoint=str(policy),
            adapted=None,
            instruction=None,
        )
        environment = prepare_environment(None)
        check_environment()
        refuse_wrong(scene, parameter_file(None))
        (work / "logs").mkdir(parents=True, exist_ok=True)
        with Supervisor(environment, work / "logs") as supervisor:
            told = Rollouts(scene, supervisor, work / "runs", arguments.tasks, arguments.goals, arguments.time_limit).run()
        done.write_text(json.dumps(told))
    return json.loads(done.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for everything")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--suite", default="libero_object")
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--goals", type=int, default=6, help="for each task")
    parser.add_argument("--time-limit", type=float, default=20.0)
    parser.add_argument("--copies", type=int, default=3, help="of the recorded episodes, for adapt")
    parser.add_argument("--episodes-per-task", type=int, default=10, help="to measure success")
    parser.add_argument("--workers", type=int, default=2, help="for success; latency is measured by one")
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    policy = bare(checkpoint.find(a.checkpoint), a.work / "policy")
    told, adapted = roll_out(a.work, policy, a), a.work / "adapted"
    if not (adapted / "report.md").exists():
        given = ["--checkpoint", policy, "--source", a.work / "runs", "--output", adapted, "--copies", str(a.copies)]
        subprocess.run([*COMMAND, "adapt", *given], check=True)
    rows = {}
    for name, source in (("shipped", ["--checkpoint", a.checkpoint]), ("adapted", ["--checkpoint", policy, "--adapted", adapted])):
        for what, more in (
            ("success", ["--episodes-per-task", a.episodes_per_task, "--workers", a.workers]),
            ("latency", ["--episodes-per-task", 1, "--workers", 1]),
        ):
            path = a.work / f"{name}_{what}.json"
            if not path.exists():
                settings = ["--settings", parameter_file(None)] if name == "shipped" else []
                subprocess.run(
                    [
                        *COMMAND,
                        "bench",
                        "libero",
                        "--suite",
                        a.suite,
                        "--decoder",
                        "autoregressive,fused",
                        *source,
                        *settings,
                        *map(str, more),
                        "--json",
                        path,
                    ],
                    check=True,
                )
            rows[f"{name}_{what}"] = json.loads(path.read_text())
    if a.json:
        a.json.write_text(json.dumps({"rollouts": told, **rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
