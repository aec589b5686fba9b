# SPDX-License-Identifier: Apache-2.0
"""`vla-sd collect`: make demonstrations with the scripted expert, in parallel; run again to resume."""

import argparse
import multiprocessing
from pathlib import Path

from vla_sd_ros import inputs
from vla_sd_ros.sim.own_scenes import OWN, SCENES
from vla_sd_ros.sim.scene import SUITES, TASKS_PER_SUITE

EPISODES_PER_ASSIGNMENT = 100


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
    parser.add_argument("--workers", type=inputs.count, default=multiprocessing.cpu_count())
    parser.add_argument("--policy", help="checkpoint that drives while the expert labels (a DAgger round); default: the expert")


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    from tqdm import tqdm

    inputs.writable_folder(arguments.output, "--output")
    if arguments.policy is not None:
        from vla_sd_ros.policy import checkpoint

        checkpoint.find(arguments.policy)  # says what is wrong before any process starts
    assignments = _assignments(arguments, _tasks(arguments))
    pending = [assignment for assignment in assignments if assignment.missing()]
    total = sum(len(assignment.missing()) for assignment in pending)
    made = kept = 0
    # spawn: a GL context does not survive a fork; few tasks a child, so that scenes' memory comes back
    with multiprocessing.get_context("spawn").Pool(arguments.workers, maxtasksperchild=4) as pool:
        with tqdm(total=total, unit="episode", desc=arguments.suite) as bar:
            jobs = [(assignment, arguments.policy) for assignment in pending]
            for results in pool.imap_unordered(_work, jobs):
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


def _assignments(arguments: argparse.Namespace, tasks: list[int]) -> list:
    """The work, in pieces of one task each."""
    from vla_sd_ros.sim.demonstrations import Assignment

    first, last = arguments.first_episode, arguments.first_episode + arguments.episodes_per_task
    return [
        Assignment(
            arguments.suite,
            task,
            range(start, min(start + EPISODES_PER_ASSIGNMENT, last)),
            arguments.output,
            arguments.noise,
            arguments.tinted,
        )
        for start in range(first, last, EPISODES_PER_ASSIGNMENT)
        for task in tasks
    ]


def _work(job) -> list[bool]:
    from vla_sd_ros.sim.demonstrations import collect

    assignment, checkpoint = job
    act = None
    if checkpoint is not None:
        from vla_sd_ros.assembly import Source, open_brain

        brain = open_brain(Source(checkpoint, threads=1))

        def act(image, instruction):
            return brain.decide(image, instruction).action

    return [success for _, success in collect(assignment, act)]
