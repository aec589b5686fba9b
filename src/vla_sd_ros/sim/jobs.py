# SPDX-License-Identifier: Apache-2.0
"""What the scripted expert can be asked for: one thing put somewhere, a knob turned, a drawer opened; and several of these."""

import contextlib
from dataclasses import dataclass, replace

from vla_sd_ros.sim.scene import TASKS_PER_SUITE, LiberoScene, find_task, quiet

# libero_spatial: the sentence that names the second bowl of each task's scene.
_PLACES = (
    "next to the ramekin",
    "next to the cookie box",
    "next to the plate",
    "on the wooden cabinet",
    "on the wooden cabinet",
    "on the cookie box",
    "on the stove",
    "on the wooden cabinet",
    "next to the ramekin",
    "on the stove",
)
SECOND_BOWL = [f"pick up the black bowl {place} and place it on the plate" for place in _PLACES]
# Of things that are held at their rim: from the middle to where [m].
RIM_REACH = {"akita_black_bowl": 0.047, "plate": 0.062, "porcelain_mug": 0.038, "white_yellow_mug": 0.042}
BELOW_TOP = {"moka_pot": 0.008}  # [m] from the top of a thing to where it is held: the knob of a lid
UPRIGHT = ("black_book",)  # thin and standing: held across the thin side, put down with that side along x
SHARED = 0.042  # [m] from the middle of a place that two things share, along x
IN_BASKET = 0.03  # [m], the same in a basket


@dataclass(frozen=True)
class Put:
    """Put `item` onto or into `place`, by LIBERO's names. aside: how far from the place's middle [m], along x."""

    relation: str
    item: str
    place: str
    aside: float = 0.0

    @property
    def predicate(self) -> tuple[str, ...]:
        """That the job is done, as LIBERO has it."""
        return (self.relation, self.item, self.place)

    @property
    def rim(self) -> float | None:
        """How far from its middle the item is held [m], where that is at its rim."""
        return RIM_REACH.get(self.item.rsplit("_", 1)[0])

    @property
    def below_top(self) -> float:
        """How far below its top the item is held [m], where that is not at its rim."""
        return BELOW_TOP.get(self.item.rsplit("_", 1)[0], 0.03)

    @property
    def upright(self) -> bool:
        """Whether the item is thin and stands, so that the hand must turn with it."""
        return self.item.rsplit("_", 1)[0] in UPRIGHT

    @property
    def drop(self) -> bool:
        """Whether the place is a basket, into which the item falls."""
        return "basket" in self.place

    @property
    def container(self) -> str:
        """The object whose region the place is, or the place itself."""
        return self.place.removesuffix("_contain_region")


@dataclass(frozen=True)
class TurnOn:
    """Turn a stove's knob."""

    stove: str

    @property
    def predicate(self) -> tuple[str, ...]:
        """That the job is done, as LIBERO has it."""
        return ("turnon", self.stove)


@dataclass(frozen=True)
class Open:
    """Open a cabinet's drawer, which is named by its region."""

    region: str

    @property
    def predicate(self) -> tuple[str, ...]:
        """That the job is done, as LIBERO has it."""
        return ("open", self.region)


Job = Put | TurnOn | Open
Task = tuple[Job, ...]  # to be done one after the other


def job_of(predicate: list[str]) -> Job:
    """The job that makes a predicate of LIBERO's true. Raises ValueError where the expert has none."""
    match predicate:
        case [("in" | "on") as relation, item, place] if not ("cabinet" in place and place.endswith("_region")):
            return Put(relation, item, place)
        case ["turnon", stove]:
            return TurnOn(stove)
        case ["open", region]:
            return Open(region)
    raise ValueError(f"the expert cannot make {' '.join(predicate)} true")


def task_of(scene: LiberoScene) -> Task:
    """The scene's own task. Raises ValueError where the expert cannot do it."""
    return _able(scene.goal(), scene.instruction)


def _task(goal: list[list[str]]) -> Task:
    """Jobs for all of a goal's predicates; two things that come to one place, side by side."""
    jobs = [job_of(predicate) for predicate in goal]
    puts = [job for job in jobs if isinstance(job, Put)]
    shared = {
        job.item: side * (IN_BASKET if job.drop else SHARED)
        for side, job in zip((-1, 1), puts)
        if sum(job.place == other.place for other in puts) == 2
    }
    return tuple(replace(job, aside=shared[job.item]) if isinstance(job, Put) and job.item in shared else job for job in jobs)


def tasks_with_sentences(scene: LiberoScene) -> list[tuple[Task, str]]:
    """The scene's own task and sentence first, then others that the same scene allows with a sentence of their own.

    In libero_spatial the second bowl always stands where another task's bowl stands, so that task's sentence names it. A
    basket takes every other object of its scene. All tasks of libero_goal have the same scene.
    """
    tasks = [(task_of(scene), scene.instruction)]
    first = tasks[0][0][0]
    if scene.suite == "libero_spatial":
        tasks.append(((Put("on", "akita_black_bowl_2", first.predicate[2]),), SECOND_BOWL[scene.task]))
    elif scene.suite == "libero_goal":
        tasks += _others_of_goal(scene.task)
    elif isinstance(first, Put) and first.drop and len(tasks[0][0]) == 1:
        tasks += [
            ((Put("in", item, first.place),), _into_the_basket(item))
            for item in scene.object_names()
            if "basket" not in item and item != first.item
        ]
    return tasks


def find(suite: str, index: int) -> tuple[Task, str]:
    """A task of a suite, by its file, and its sentence. Raises ValueError where the expert cannot do it."""
    found = find_task(suite, index)
    with quiet():
        from libero.libero.envs.bddl_utils import robosuite_parse_problem

        goal = robosuite_parse_problem(str(found.bddl))["goal_state"]
    return _able(goal, found.instruction), found.instruction


def _able(goal: list[list[str]], instruction: str) -> Task:
    try:
        return _task(goal)
    except ValueError as error:
        raise ValueError(f"the expert cannot do {instruction!r}: {error}") from error


def _others_of_goal(task: int) -> list[tuple[Task, str]]:
    """What the other tasks of libero_goal ask for, as far as the expert can do it."""
    others = []
    for index in set(range(TASKS_PER_SUITE)) - {task}:
        with contextlib.suppress(ValueError):
            others.append(find("libero_goal", index))
    return others


def _into_the_basket(item: str) -> str:
    return f"pick up the {item.rsplit('_', 1)[0].replace('_', ' ')} and place it in the basket"
