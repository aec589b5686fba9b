# SPDX-License-Identifier: Apache-2.0
"""The nodes that a study's trials are made on: started with a simulator, or those that run already."""

import argparse
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from vla_sd_ros.demo import SimulatedSystem, parameter_file, prepare_environment, refuse_wrong
from vla_sd_ros.environment import check_environment, start_ros
from vla_sd_ros.supervisor import Supervisor
from vla_sd_ros.trial.keys import Keys
from vla_sd_ros.trial.study import Protocol, Study

CLIENT = "vla_sd_trial"
ACTIVE_WITHIN = 60.0  # [s]


def ready(protocol: Protocol, domain: int | None) -> dict[str, str]:
    """The environment of what is started for trials. Raises BadInput where ROS or a node would not start, before either does."""
    if protocol.simulator:
        environment = prepare_environment(domain)
        check_environment()
        refuse_wrong(_scene(protocol), _parameters(protocol))
        return environment
    if domain is not None:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
    check_environment()
    return dict(os.environ, PYTHONUNBUFFERED="1")


def on_nodes(study: Study, environment: dict[str, str]) -> bool:
    """Trials.run() of the study. environment: ready()'s."""
    with ExitStack() as stack:
        keys = stack.enter_context(Keys()) if study.protocol.outcome == "operator" else None
        logs = study.folder / "logs"
        logs.mkdir(exist_ok=True)
        supervisor = Supervisor(environment, logs)
        if study.protocol.simulator:
            return Simulated(study, stack.enter_context(supervisor), keys).run()
        return _on_running_nodes(study, stack, supervisor, keys)


def _on_running_nodes(study: Study, stack: ExitStack, supervisor: Supervisor, keys: Keys | None) -> bool:
    start_ros()
    import rclpy

    from vla_sd_ros.client import InstructionClient
    from vla_sd_ros.trial.trials import Trials

    stack.callback(rclpy.try_shutdown)
    client = stack.enter_context(InstructionClient(study.protocol.namespace, CLIENT))
    stack.enter_context(supervisor)
    client.wait_until_active(ACTIVE_WITHIN, supervisor.check)
    return Trials(study, client, supervisor, keys).run()


class Simulated(SimulatedSystem):
    """Simulator and nodes for as long as trials are due."""

    CLIENT = CLIENT

    def __init__(self, study: Study, supervisor: Supervisor, keys: Keys | None):
        super().__init__(_scene(study.protocol), supervisor, _parameters(study.protocol))
        self._study, self._keys = study, keys

    def execute(self) -> bool:
        from vla_sd_ros.trial.trials import Trials

        self._study.protocol = replace(self._study.protocol, instruction=self._instruction)
        return Trials(self._study, self.client, self._supervisor, self._keys).run()


def _scene(p: Protocol) -> argparse.Namespace:
    return argparse.Namespace(
        namespace=p.namespace,
        suite=p.suite,
        task=p.task,
        initial_state=None,
        seed=None,
        checkpoint=p.checkpoint,
        adapted=None,
        instruction=p.instruction or None,
    )


def _parameters(p: Protocol) -> Path:
    return parameter_file(Path(p.params) if p.params else None)
