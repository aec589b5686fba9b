# SPDX-License-Identifier: Apache-2.0
"""franky-sim with what it lacks: a reflex and a stop button, by words on its standard input. Run as a process."""

import json
import queue
import sys
import threading

from franky_sim import SimulationServer
from franky_sim.franka_robot_protocol import MoveStatus, RobotCommand, RobotMode
from franky_sim.franka_server import BaseCommand
from franky_sim.mujoco_simulator import MujocoSimulator

CARTESIAN_REFLEX = 7  # of the errors in the state, by libfranka's order


def main() -> None:
    mode: list = [None]
    with MujocoSimulator() as simulator:
        robot = simulator.add_robot()
        with SimulationServer(simulator, hostname_candidates=[sys.argv[1]]) as server:
            arm = server.robot_servers[0]
            state = type(arm).robot_state.fget

            def falsified(self):
                now = state(self)
                errors = tuple(mode[0] == RobotMode.kReflex and i == CARTESIAN_REFLEX for i in range(41))
                return (
                    now
                    if mode[0] is None
                    else now.replace(
                        robot_mode=mode[0], current_errors=errors, last_motion_errors=errors, errors=errors, reflex_reason=errors
                    )
                )

            type(arm).robot_state = property(falsified)

            def obey(word: str) -> None:
                if word == "where":
                    print(json.dumps({"q": list(robot.state.q)}), flush=True)
                    return
                mode[0] = {"reflex": RobotMode.kReflex, "pressed": RobotMode.kUserStopped}.get(word)
                if mode[0] is None:
                    return
                status = MoveStatus.kReflexAborted if word == "reflex" else MoveStatus.kEmergencyAborted
                number = arm.current_motion_id
                arm.stop_motion(send_preemption_signal=False)
                if number:
                    BaseCommand.send_response(arm._tcp_socket, RobotCommand.kMove, number, status)
                    arm.reset_current_motion_id()

            words: queue.SimpleQueue[str] = queue.SimpleQueue()
            threading.Thread(target=lambda: [words.put(line.strip()) for line in sys.stdin], daemon=True).start()
            print(f"Press {robot.hostname}", flush=True)
            while True:
                while not words.empty():
                    obey(words.get())
                server.run_once()


if __name__ == "__main__":
    main()
