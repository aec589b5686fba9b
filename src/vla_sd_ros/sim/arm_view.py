# SPDX-License-Identifier: Apache-2.0
"""What a camera opposite a simulated arm sees of it: its URDF drawn by MuJoCo."""

from xml.etree import ElementTree

import mujoco
import numpy as np


class ArmView:
    """Renders in the thread that made it."""

    def __init__(self, urdf: str, size: int):
        """size: width and height of the image [pixels]."""
        robot = ElementTree.fromstring(urdf)
        for link in robot.findall("link"):  # names with slashes are paths to MuJoCo's reader
            link.set("name", link.attrib["name"].replace("/", "_"))
        for end in robot.findall("joint/parent") + robot.findall("joint/child"):
            end.set("link", end.attrib["link"].replace("/", "_"))
        settings = ElementTree.SubElement(robot, "mujoco")
        ElementTree.SubElement(
            settings, "compiler", discardvisual="false", fusestatic="false", boundmass="0.01", boundinertia="0.0001"
        )
        self._model = mujoco.MjModel.from_xml_string(ElementTree.tostring(robot, encoding="unicode"))
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, size, size)
        self._camera = mujoco.MjvCamera()
        self._camera.lookat[:] = (0.25, 0.0, 0.25)
        self._camera.distance, self._camera.azimuth, self._camera.elevation = 1.1, 145.0, -25.0
        self._model.vis.headlight.ambient[:] = 0.4

    def image(self, names: list[str], positions: np.ndarray) -> np.ndarray:
        """RGB image (size, size, 3) uint8 of the arm with these joint positions [rad or m]."""
        for name, position in zip(names, positions):
            self._data.qpos[self._model.joint(name).qposadr] = position
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render().copy()
