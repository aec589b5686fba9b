# SPDX-License-Identifier: Apache-2.0
"""Commands in forks of a process that has imported everything: `vla-sd` and `python` of a folder of two small scripts.

    python warm.py FOLDER

makes the folder, and then does what these are asked for, until its standard input ends. A pipe in there takes what is asked, a
line for the process whose output is wanted and one for each word; another gives the exit status.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest

from vla_sd_ros.adapt import stages  # noqa: F401  (torch and all)
from vla_sd_ros.bench import decode  # noqa: F401
from vla_sd_ros.cli import main

ASK = '#!/bin/bash\nprintf "%s\\n" $$ {name} "$@" > {folder}/asked\nread -r status < {folder}/ended\nexit $status\n'


def answer(folder: Path) -> None:
    asker, name, *words = (folder / "asked").read_text().splitlines()
    if not (child := os.fork()):
        for output in (1, 2):
            os.dup2(os.open(f"/proc/{asker}/fd/{output}", os.O_WRONLY | os.O_APPEND), output)
        sys.argv = [name, *words]
        try:
            status = int(pytest.main(words[2:]) if name == "python" else main(words))  # python -m pytest ...
        except BaseException:  # what an interpreter does at its end
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for _ in range(50):  # who asked may have been ended, or does not listen yet
        with contextlib.suppress(OSError):
            pipe = os.open(folder / "ended", os.O_WRONLY | os.O_NONBLOCK)
            os.write(pipe, f"{status}\n".encode())
            os.close(pipe)
            return
        time.sleep(0.1)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir()
    for pipe in ("asked", "ended"):
        os.mkfifo(place / pipe)
    for command in ("vla-sd", "python"):
        (place / command).write_text(ASK.format(name=command, folder=place))
        (place / command).chmod(0o755)
    print("ready", flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        answer(place)
