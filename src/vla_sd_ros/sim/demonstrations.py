# SPDX-License-Identifier: Apache-2.0
"""Demonstrations: episodes of the scripted expert with injected noise, collected in parallel and resumable.

One .npz file an episode, one row a step at 5 Hz:
    images (T, 160, 160, 3) uint8; actions (T, 7): the expert's labels; executed (T, 7): what the arm did (noise included)
    joint_positions, joint_velocities (T, 7) [rad, rad/s]; ee_positions (T, 3) [m, base axes]
    grasp_points, place_points (T, 3) [m]: privileged, for auxiliary losses; held (T,) bool
    instruction, suite, task, initial_state, seed, success; camera (3, 4): from points in the base frame to pixels
    sentences (J,), other_actions, other_grasp_points, other_place_points (T, J, ...): what else could have been asked for in
        the same pictures, and the expert's labels for it; true only while nothing is held
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from vla_sd_ros.sim import layouts
from vla_sd_ros.sim.arranging import arrange, scatter
from vla_sd_ros.sim.episode import TRAINING_STATES, TargetFollower
from vla_sd_ros.sim.expert import Expert
from vla_sd_ros.sim.jobs import Put, Task, tasks_with_sentences
from vla_sd_ros.sim.own_scenes import OWN
from vla_sd_ros.sim.scene import PERTURBED, LiberoScene
from vla_sd_ros.whole_files import whole

STEP_LIMIT = 70
PLACED = (3, 7)  # objects beside the basket in a scene of our own, at least and at most
ASTRAY = 0.3  # probability that an episode begins with a way towards another object
ASTRAY_STEPS = 15  # at most
START_OFFSET = np.array([0.09, 0.12, 0.08])  # [m], largest shift of the arm before the first step
START_YAW = 0.3  # [rad]
BURST_PROBABILITY = 0.15  # of a burst of noise to begin at a step
TRANSLATION_NOISE = 0.014  # [m], standard deviation within a burst
ROTATION_NOISE = 0.04  # [rad]
GRIPPER_GLITCH = 0.01  # probability of a wrong gripper command for one step
MAX_DELAY = 0.15  # [s] from the image to the start of the motion


@dataclass(frozen=True)
class Assignment:
    """Which episodes one worker makes in one scene.

    noise: scale of the noise injected into the expert's actions; delicate scenes need less. tinted: in random colours.
    steps: of an episode, at most; 0: what the suite needs.
    """

    suite: str
    task: int
    episodes: range
    directory: Path
    noise: float = 1.0
    tinted: bool = False
    steps: int = 0

    def __post_init__(self):
        if self.suite in PERTURBED:
            raise ValueError(f"{self.suite} is for measurement alone: nothing is trained on LIBERO-PRO's scenes")

    def path(self, episode: int) -> Path:
        """The file of an episode."""
        return self.directory / self.suite / f"task{self.task}" / f"episode{episode:04d}.npz"

    def missing(self) -> list[int]:
        """Episodes that have no file yet."""
        return [episode for episode in self.episodes if not self.path(episode).exists()]


def collect(assignment: Assignment, act: Callable | None = None) -> Iterator[tuple[int, bool]]:
    """Make the missing episodes of an assignment; yields each episode's number and success. act: as in made()."""
    for episode, success, content in made(assignment, assignment.missing(), act):
        land(assignment.path(episode), content)
        yield episode, success


def made(assignment: Assignment, episodes: Iterable[int], act: Callable | None = None) -> Iterator[tuple[int, bool, bytes]]:
    """Make episodes of an assignment; yields each one's number and success, and what its file is to hold.

    act: None for the noisy expert; otherwise a policy (image, instruction) -> action (7,) that drives while the expert
    only labels (DAgger; Ross et al., "A reduction of imitation learning to no-regret online learning", 2011).
    Failed episodes of the expert have an empty file, so that a resumed run does not try them again.
    """
    scene = None
    for episode in episodes:
        scene = scene or LiberoScene(assignment.suite, assignment.task)
        rng = np.random.default_rng([assignment.task, episode, 0 if act is None else 1])
        if assignment.tinted:
            scene.tint(rng)
        record = record_episode(scene, rng, act, assignment.noise, assignment.steps)
        file = BytesIO()
        np.savez(file, **(record if record["success"] or act is not None else {"success": False}))
        yield episode, bool(record["success"]), file.getvalue()
    if scene:
        scene.close()


def land(path: Path, content: bytes) -> None:
    """Write an episode's file, which is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_bytes(content)


# Longer than others: in this order everything random is drawn, and the same seeds must give the same demonstrations.
def record_episode(
    scene: LiberoScene, rng: np.random.Generator, act: Callable | None = None, scale: float = 1.0, limit: int = 0
) -> dict:
    """One episode from a training state with shifted or scattered objects and a shifted arm, as a dict of arrays."""
    state, seed, tasks = _begin(scene, rng)
    _shift_arm(scene, rng)
    (task, instruction), *others = tasks
    expert, follower = Expert(scene, task), TargetFollower(scene)
    other_experts = [Expert(scene, other) for other, _ in others]
    delay = rng.uniform(0, MAX_DELAY)
    astray = rng.integers(1, ASTRAY_STEPS) if others and act is None and rng.random() < ASTRAY else 0
    steps: dict[str, list] = {}
    burst, noise = 0, np.zeros(7)
    for step in range((limit or max(STEP_LIMIT, scene.step_limit)) + astray):
        label = expert.action()
        image = scene.render()
        row = {
            "images": image.copy(),
            "actions": label,
            "joint_positions": scene.q,
            "joint_velocities": scene.dq,
            "ee_positions": scene.ee_pose()[0],
            **expert.privileged(),
            **_others(other_experts),
        }
        if act is None:
            burst, noise = _noise(burst, noise, rng)
            executed = label + scale * noise
            if step < astray:
                executed = np.append(row["other_actions"][0, :6], 1.0)
            elif rng.random() < scale * GRIPPER_GLITCH:
                executed[6] = 1.0 - executed[6]
        else:
            executed = act(image, instruction)
        for name, value in {**row, "executed": executed}.items():
            steps.setdefault(name, []).append(value)
        for one in (expert, *other_experts):
            one.record(executed[6])
        follower.execute(executed, delay)
        if expert.done():
            break
    return {
        **{name: np.asarray(values) for name, values in steps.items()},
        "instruction": instruction,
        "suite": scene.suite,
        "task": scene.task,
        "initial_state": state,
        "seed": seed,
        "success": expert.done(),
        "camera": scene.projection(),
        "sentences": np.array([sentence for _, sentence in others], dtype=str),
    }


def _begin(scene: LiberoScene, rng: np.random.Generator) -> tuple[int, int, list[tuple[Task, str]]]:
    """Put the scene into a state to begin from: its number and seed, and what can be asked for, the task to do first."""
    tasks = tasks_with_sentences(scene)
    if scene.suite == OWN:
        return _scattered(scene, rng, tasks) if "basket_1" in scene.object_names() else _laid(scene, rng)
    state, seed = int(rng.choice(TRAINING_STATES)), int(rng.integers(1, 2**31))
    scene.reset(state, seed)
    chosen = 0 if rng.random() < 0.6 else int(rng.integers(len(tasks)))
    return state, seed, [tasks[chosen], *tasks[:chosen], *tasks[chosen + 1 :]]


def _scattered(scene: LiberoScene, rng: np.random.Generator, tasks: list) -> tuple[int, int, list[tuple[Task, str]]]:
    """Some of the objects in places of which none is held out."""
    while True:
        seed, count = int(rng.integers(1, 2**31)), rng.integers(PLACED[0], PLACED[1] + 1)
        chosen = [tasks[i] for i in rng.permutation(len(tasks))[:count]]
        names = [task[0].item for task, _ in chosen] + [chosen[0][0][0].container]
        scene.reset(0)
        placed = scatter(scene, np.random.default_rng(seed), names, dict.fromkeys(names, False))
        if names[-1] in placed and (left := [pair for pair in chosen if pair[0][0].item in placed]):
            return 0, seed, left


def _laid(scene: LiberoScene, rng: np.random.Generator) -> tuple[int, int, list[tuple[Task, str]]]:
    """Tableware in a random layout, with a sentence for each bowl."""
    seed = int(rng.integers(1, 2**31))
    scene.reset(0)
    layout = layouts.draw(scene, np.random.default_rng(seed))
    arrange(scene, layout.spots, layout.on)
    tasks = [((Put("on", bowl, "plate_1"),), layouts.sentence(where)) for bowl, where in layout.where.items()]
    return 0, seed, [tasks[i] for i in rng.permutation(len(tasks))]


def _others(experts: list[Expert]) -> dict:
    """Labels and targets (J, ...) of the other jobs."""
    seen = [expert.privileged() for expert in experts]
    return {
        "other_actions": np.array([expert.action() for expert in experts]).reshape(-1, 7),
        "other_grasp_points": np.array([one["grasp_points"] for one in seen]).reshape(-1, 3),
        "other_place_points": np.array([one["place_points"] for one in seen]).reshape(-1, 3),
    }


def _shift_arm(scene: LiberoScene, rng: np.random.Generator) -> None:
    """Begin elsewhere than at the published pose, so that the policy sees how to come back."""
    follower = TargetFollower(scene)
    shift = np.concatenate([rng.uniform(-1, 1, 3) * START_OFFSET, [0, 0, rng.uniform(-START_YAW, START_YAW)], [1.0]])
    for _ in range(4):
        follower.execute(np.concatenate([shift[:6] / 4, shift[6:]]))


def _noise(burst: int, noise: np.ndarray, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """Constant offsets over bursts of one to three steps."""
    if burst > 0:
        return burst - 1, noise
    if rng.random() < BURST_PROBABILITY:
        scale = np.array([TRANSLATION_NOISE] * 3 + [ROTATION_NOISE] * 3 + [0.0])
        return int(rng.integers(0, 3)), rng.normal(size=7) * scale
    return 0, np.zeros(7)
