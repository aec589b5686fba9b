# SPDX-License-Identifier: Apache-2.0
"""trossen-arm-sim on the loopback alone, with faults by words on its standard input. Run as a process."""

import json
import sys

from trossen_arm_sim.protocol import INSTALLED_DRIVER_VERSION, ErrorState
from trossen_arm_sim.server import TrossenArmSimServer
from trossen_arm_sim.sim import WidowXSim


def main() -> None:
    version = INSTALLED_DRIVER_VERSION if sys.argv[1] == "installed" else sys.argv[1]
    simulation = WidowXSim()
    simulation.start()
    server = TrossenArmSimServer(simulation, host="127.0.0.1", driver_version=version)
    server.start()
    print("ready", flush=True)
    for word in sys.stdin:
        if word.strip() == "where":
            joints = simulation.read_joint_outputs()[:6]
            print(json.dumps({"q": [j.position for j in joints]}), flush=True)
        if word.strip() == "overheated":
            server.fault(ErrorState.JOINT_OVERHEATED, "joint 2 overheated")


if __name__ == "__main__":
    main()
