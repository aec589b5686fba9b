# SPDX-License-Identifier: Apache-2.0
"""`vla-sd collect`: make demonstrations with the scripted expert, in parallel; run again to resume."""

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from vla_sd_ros import inputs, workers
from vla_sd_ros.checkpoint_places import absolute, is_path
from vla_sd_ros.sim.demonstrations import Assignment, collect, land, made
from vla_sd_ros.sim.own_scenes import OWN, SCENES
from vla_sd_ros.sim.scene import SUITES, TASKS_PER_SUITE

EPISODES_PER_ASSIGNMENT = 100
LIFETIME = 20  # episodes, each in a scene of its own, whose memory comes back with the process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--suite", choices=(*SUITES, OWN), default="libero_object")
    parser.add_argument(
        "--tasks", type=inputs.whole(0, max(TASKS_PER_SUITE, len(SCENES)) - 1), nargs="*", help="indices, default all"
    )
    parser.add_argument("--episodes-per-task", type=inputs.count, default=100)
    parser.add_argument("--first-episode", type=inputs.whole(0, 10**9), default=0, help="number, and so seed, of the first episode")
    parser.add_argument("--output", type=inputs.path, default=Path("demonstrations"))
    parser.add_argument("--noise", type=inputs.number(0.0, 100.0), default=1.0, help="scale of the expert's injected noise")
    parser.add_argument("--tinted", action="store_true", help="everything in random colours, anew for each episode")
    parser.add_argument("--steps", type=inputs.whole(0, 10**6), default=0, help="of an episode, at most; 0: what the suite needs")
    parser.add_argument("--workers", type=inputs.count, default=multiprocessing.cpu_count(), help="processes of this machine")
    parser.add_argument("--policy", help="checkpoint that drives while the expert labels (a DAgger round); default: the expert")
    workers.add_cluster(parser)


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    from tqdm import tqdm

    inputs.writable_folder(arguments.output, "--output")
    if arguments.policy is not None:
        from vla_sd_ros.policy import checkpoint

        checkpoint.find(arguments.policy)  # says what is wrong before any process starts
    pending = [assignment for assignment in _assignments(arguments, _tasks(arguments)) if assignment.missing()]
    total = sum(len(assignment.missing()) for assignment in pending)
    made = kept = 0
    with tqdm(total=total, unit="episode", desc=arguments.suite) as bar:
        for results in _landed(pending, arguments):
            made, kept = made + len(results), kept + sum(results)
            bar.update(len(results))
            bar.set_postfix(succeeded=f"{kept}/{made}")
    print(f"{kept} of {made} new episodes succeeded; demonstrations are in {arguments.output / arguments.suite}")
    return 0


def _tasks(arguments: argparse.Namespace) -> list[int]:
    """The tasks that were asked for, or all that the expert can do. Raises BadInput."""
    from vla_sd_ros.sim.jobs import find

    every = range(len(SCENES) if arguments.suite == OWN else TASKS_PER_SUITE)
    if unknown := set(arguments.tasks or ()) - set(every):
        raise inputs.BadInput(f"{arguments.suite} has the tasks 0 to {every[-1]}, but not {min(unknown)}: correct --tasks")
    tasks = []
    for task in every if arguments.tasks is None else arguments.tasks:
        try:
            find(arguments.suite, task)
            tasks.append(task)
        except ValueError as error:
            if arguments.tasks is not None:
                raise inputs.BadInput(f"{error}: leave {task} out of --tasks") from error
            print(f"without task {task}: {error}")
    return tasks


def _assignments(arguments: argparse.Namespace, tasks: list[int]) -> list[Assignment]:
    """The work, in pieces of one task each; on a cluster in single episodes, which is what a lost node costs."""
    first, last = arguments.first_episode, arguments.first_episode + arguments.episodes_per_task
    step = 1 if arguments.cluster else EPISODES_PER_ASSIGNMENT
    how = (arguments.output, arguments.noise, arguments.tinted, arguments.steps)
    return [
        Assignment(arguments.suite, task, range(start, min(start + step, last)), *how)
        for start in range(first, last, step)
        for task in tasks
    ]


def _landed(pending: list[Assignment], arguments: argparse.Namespace) -> Iterator[list[bool]]:
    """Successes of episodes whose files have been written."""
    checkpoint = arguments.policy
    if not arguments.cluster:
        jobs = [(assignment, checkpoint) for assignment in pending]
        yield from workers.each(_collect, jobs, processes=arguments.workers, lifetime=4)
        return
    paths = [checkpoint := absolute(checkpoint)] if checkpoint and is_path(checkpoint) else []
    jobs = [(assignment, checkpoint) for assignment in pending]
    for assignment, found in workers.each(_make, jobs, lifetime=LIFETIME, cluster=arguments.cluster, paths=paths):
        for episode, _, content in found:
            land(assignment.path(episode), content)
        yield [success for _, success, _ in found]


def _collect(job: tuple[Assignment, str | None]) -> list[bool]:
    assignment, checkpoint = job
    return [success for _, success in collect(assignment, _policy(checkpoint))]


def _make(job: tuple[Assignment, str | None]) -> tuple[Assignment, list[tuple[int, bool, bytes]]]:
    """The same of all its episodes, without a look at the disk, nor a file."""
    assignment, checkpoint = job
    return assignment, list(made(assignment, assignment.episodes, _policy(checkpoint)))


@cache
def _policy(checkpoint: str | None) -> Callable | None:
    """From image and instruction to an action (7,); None where the expert drives."""
    if checkpoint is None:
        return None
    from vla_sd_ros.assembly import Source, open_brain

    brain = open_brain(Source(checkpoint, threads=1))
    return lambda image, instruction: brain.decide(image, instruction).action
