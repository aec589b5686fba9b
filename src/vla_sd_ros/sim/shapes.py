# SPDX-License-Identifier: Apache-2.0
"""How large the things of a scene are and where they stand (privileged: for experts and layouts only)."""

from dataclasses import dataclass

import mujoco
import numpy as np

from vla_sd_ros.sim.scene import LiberoScene

SKY = 1.0  # [m], above everything


@dataclass(frozen=True)
class Shape:
    """Extent of an object from its body's origin in base axes, low (3,) to high (3,) [m]."""

    low: np.ndarray
    high: np.ndarray


def extent(scene: LiberoScene, name: str) -> Shape:
    """Extent of an object's collision shapes relative to its origin, in its present orientation."""
    model, data, root = scene.model, scene.data, scene.body(name)
    corners = []
    for geom in range(model.ngeom):
        if model.body_rootid[model.geom_bodyid[geom]] != root:
            continue
        if not (model.geom_contype[geom] or model.geom_conaffinity[geom]):
            continue
        centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        rotation = data.geom_xmat[geom].reshape(3, 3)
        middle = data.geom_xpos[geom] + rotation @ centre - data.xpos[root]
        corners += [middle - np.abs(rotation) @ half, middle + np.abs(rotation) @ half]
    return Shape(low=np.min(corners, axis=0), high=np.max(corners, axis=0))


def standing_area(scene: LiberoScene, name: str) -> tuple[np.ndarray, float]:
    """Middle (x, y) [m] in the base frame and radius [m] of an object or fixture, seen from above."""
    shape = extent(scene, name)
    middle = scene.object_pose(name)[0][:2] + (shape.low[:2] + shape.high[:2]) / 2
    return middle, float(np.max(shape.high[:2] - shape.low[:2]) / 2)


def wall(scene: LiberoScene, name: str, height: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The first flat side of a fixture in direction y from an object, at a height above its origin [m].

    Returns a point of it (3,) [m] and its normal (3,), both in the base frame; None where something else or nothing comes
    first.
    """
    model, data = scene.model, scene.data
    start, y = scene.object_pose(name)[0] + [0.0, 0.0, height], scene.base_rotation[:, 1]
    geom, solid = np.full(1, -1, dtype=np.int32), np.array([1, 0, 0, 0, 0, 0], dtype=np.uint8)
    distance = mujoco.mj_ray(model, data, scene.to_world(start), y, solid, 1, scene.body(name), geom)
    hit = int(geom[0])
    if hit < 0 or model.geom_type[hit] != mujoco.mjtGeom.mjGEOM_BOX or not _is_fixture(scene, hit):
        return None
    axes = scene.base_rotation.T @ data.geom_xmat[hit].reshape(3, 3)
    normal = axes[:, np.argmax(np.abs(axes[1]))]
    return start + [0.0, distance, 0.0], normal * np.sign(normal[1])


def _is_fixture(scene: LiberoScene, geom: int) -> bool:
    root = scene.model.body_rootid[scene.model.geom_bodyid[geom]]
    return any(root == scene.body(name) for name in scene.fixture_names())


def top_at(scene: LiberoScene, point: np.ndarray) -> float:
    """Height [m] at which something put down at a point (x, y, z) [m] of the base frame stands: on a fixture there, or at the
    point's own height."""
    model, data = scene.model, scene.data
    start, geom = np.array([point[0], point[1], SKY]), np.full(1, -1, dtype=np.int32)
    while True:
        distance = mujoco.mj_ray(model, data, scene.to_world(start), np.array([0.0, 0.0, -1.0]), None, 1, -1, geom)
        start[2] -= distance
        if distance < 0 or start[2] < point[2]:
            return float(point[2])
        hit = int(geom[0])
        if model.geom_contype[hit] and _is_fixture(scene, hit):
            return float(start[2])
        start[2] -= 1e-4  # past the arm, and what can be moved
