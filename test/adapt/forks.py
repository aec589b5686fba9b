# SPDX-License-Identifier: Apache-2.0
"""Runs adaptations in forks of a process that has imported everything, in JSON on its standard input, one an item of a list.

    {"arguments": [...], "kill_at": 3, "save_always": true}

kill_at: the file that is not given its name any more, counted from 1: SIGKILL comes before it. Prints for each the exit status
and the peak memory [MB].
"""

import json
import os
import signal
import sys
from pathlib import Path

from vla_sd_ros.adapt import stages  # noqa: F401  (torch and all)
from vla_sd_ros.cli import main
from vla_sd_ros.training import train_drafter, train_head


def run(job: dict) -> int:
    if job.get("save_always"):
        train_head.SAVE_EVERY = train_drafter.SAVE_EVERY = -1.0
    named = 0
    for method in ("replace", "rename"):

        def counted(self, target, original=getattr(Path, method)):
            nonlocal named
            named += 1
            if named == job.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, target)

        setattr(Path, method, counted)
    return main(job["arguments"])


for line in sys.stdin:
    if not (child := os.fork()):
        output = os.open(os.devnull, os.O_WRONLY)
        os.dup2(output, 1)
        os._exit(run(json.loads(line)))
    _, status, usage = os.wait4(child, 0)
    print(json.dumps({"status": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss / 1000}), flush=True)
