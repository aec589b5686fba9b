# SPDX-License-Identifier: Apache-2.0
"""What keeps a loop on time beside processes that take all of the processor."""

import gc
import os
from pathlib import Path


def take_priority(priority: int) -> None:
    """Put every thread of this process, those of the middleware too, under SCHED_FIFO with this priority, 1 .. 99.

    They then run whenever they have something to do, before all ordinary processes, and so do the threads that they start:
    an ordinary thread of the middleware that holds a lock would keep the loop waiting. RuntimeError, one sentence, where the
    system does not permit it.
    """
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError as error:
        raise RuntimeError(
            f"realtime_priority is {priority}, but the system does not permit it: give the user an rtprio of {priority} in "
            "/etc/security/limits.conf, or set realtime_priority to 0"
        ) from error


def give_priority_back() -> None:
    """Put every thread of this process under the ordinary scheduler again."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


def spare_collector() -> None:
    """Keep what is loaded by now out of the garbage collector's passes, each of which would take milliseconds.

    Undone by gc.unfreeze; else what is loaded by now would never go.
    """
    gc.collect()
    gc.freeze()
