# SPDX-License-Identifier: Apache-2.0
"""vla_node before cameras in processes of their own, by camera.py: which images arrive, and what a goal makes of them."""

import sys
from pathlib import Path

from processes import NodeProcess
from vla import Vla

CAMERA = str(Path(__file__).with_name("camera.py"))


def profiles(name: str) -> dict[str, str]:
    """The environment in which the middleware reads a file of config/."""
    # The second name is that of Fast DDS before 3, which Jazzy has.
    variables = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    return dict.fromkeys(variables, str(Path(__file__).parents[2] / "config" / name))


BUFFERS = profiles("large_images.xml")


class Filmed(Vla):
    """vla_node, joint states, and no camera but those that are started. wrap: what comes before vla_node's command."""

    def __init__(self, checkpoint, folder, wrap=(), discovery="LOCALHOST", **parameters):
        super().__init__(checkpoint, folder, wrap, discovery, **parameters)
        self.world.camera, self._folder, self._cameras = False, folder, []
        self.ros.node.destroy_publisher(self.world._images)

    def film(self, *arguments: str, buffers: bool) -> NodeProcess:
        """Start camera.py with these arguments; buffers: with config/large_images.xml."""
        settings = [f"{name}={value}" for name, value in BUFFERS.items()] if buffers else []
        command = ["env", *settings, sys.executable, CAMERA, *arguments, "--ros-args", "-r", "__ns:=/vla"]
        log = self._folder / f"camera_{len(self._cameras)}.log"
        self._cameras.append(NodeProcess(command, self.domain, log))
        self._cameras[-1].wait_for_line("filming")
        return self._cameras[-1]

    def sees(self, qos: str, age: float = 0.5) -> bool:
        """Whether vla_node has told of a subscription with these QoS and a newest image of less than this age [s]."""
        told = [
            {value.key: value.value for value in status.values}
            for _, message in self.diagnostics
            for status in message.status
            if "vla_node" in status.name
        ]
        return any(values["image qos"] == qos and float(values["image age [s]"]) <= age for values in told)

    def close(self) -> None:
        for camera in self._cameras:
            camera.kill()
        super().close()
