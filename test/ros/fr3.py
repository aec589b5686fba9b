# SPDX-License-Identifier: Apache-2.0
"""franky-sim with what it lacks: a reflex and a stop button, by words on its standard input. Run as a process."""
import json
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
                return now if mode[0] is None else now.replace(robot_mode=mode[0], current_errors=errors, last_motion_errors=errors,
                                                               errors=errors, reflex_reason=errors)

            type(arm).robot_state = property(falsified)

            def listen():
                for word in sys.stdin:
                    word = word.strip()
                    if word == "where":
                        now = robot.state
                        print(json.dumps({"q": list(now.q)}), flush=True)
                        continue
                    if word == "released":
                        mode[0] = None
                        continue
                    mode[0] = RobotMode.kReflex if word == "reflex" else RobotMode.kUserStopped
                    status = MoveStatus.kReflexAborted if word == "reflex" else MoveStatus.kEmergencyAborted
                    number = arm.current_motion_id
                    arm.stop_motion(send_preemption_signal=False)
                    if number:
                        BaseCommand.send_response(arm._tcp_socket, RobotCommand.kMove, number, status)
                        arm.reset_current_motion_id()

            threading.Thread(target=listen, daemon=True).start()
            print(f"Press {robot.hostname}", flush=True)
            server.run_forever()


if __name__ == "__main__":
    main()
