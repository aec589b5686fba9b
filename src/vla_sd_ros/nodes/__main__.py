# SPDX-License-Identifier: Apache-2.0
"""`python -m vla_sd_ros.nodes NAME ...`: a node as a process, which a signal ends quietly even while it is importing."""

import os
import signal
import sys
from importlib import import_module

from vla_sd_ros.environment import check_environment
from vla_sd_ros.inputs import BadInput
from vla_sd_ros.node_names import NODES

STARTED = (*NODES, "recorder")  # the last by `vla-sd record` alone


def main() -> int:
    """Run the node that the first argument names; returns the exit code: 2 for an unknown name, 1 for no start."""
    if sys.argv[1:2] == [] or sys.argv[1] not in STARTED:
        print(f"name the node: {', '.join(STARTED)}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # until the node's own handlers; nothing has begun yet
    try:
        check_environment()
        node = import_module(f"vla_sd_ros.nodes.{sys.argv.pop(1)}")
    except BadInput as error:
        print(f"could not start: {error}", file=sys.stderr)
        return 1
    return node.main()


if __name__ == "__main__":
    sys.exit(main())
