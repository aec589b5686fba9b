# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench libero`: closed-loop success and latency of decoders on held-out initial states."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_sd_ros import inputs, workers
from vla_sd_ros.bench import results
from vla_sd_ros.bench.landed import Landed
from vla_sd_ros.bench.motion import Motion, motion_of, row_of
from vla_sd_ros.bench.parts import Parts, parts
from vla_sd_ros.bench.results import NO_TREES, Step, step_of, wilson
from vla_sd_ros.sim.episode import HELD_OUT_STATES, VALIDATION_STATES
from vla_sd_ros.sim.scene import PERTURBED, SUITES, TASKS_PER_SUITE
from vla_sd_ros.sim.suites import base
from vla_sd_ros.whole_files import whole

SCENES = 2  # that a process makes before it ends: their memory comes back with it
RIGHT, WRONG, NOTHING = "right_object", "wrong_object", "nothing"
TASK, OTHER, EACH, HELD_OUT = "task", "other", "each", "held-out"
SENTENCES = {
    TASK: "the task's own",
    OTHER: "another that the scene allows",
    EACH: "each that the scene allows, one after the other",
    HELD_OUT: "the task's goal in words that were never trained on",
}


@dataclass(frozen=True)
class EpisodeResult:
    """One closed-loop episode. outcome: what was done, the right object or a wrong one moved to the goal, or nothing.

    seen: what the decoder saw, where that is to be recorded: images (T, H, W, 3) uint8, bins (T, 7), positions (T, 3) [m],
    rotations (T, 3, 3). motion: what arm_node would make of its actions.
    """

    task: int
    state: int
    decoder: str
    outcome: str
    steps: list[Step]
    sentence: str = ""
    seen: dict[str, Any] | None = None
    motion: Motion | None = None

    @classmethod
    def of(cls, row: dict) -> "EpisodeResult":
        """From what asdict() made of one, and JSON of that."""
        motion = Motion(**row["motion"]) if row.get("motion") else None
        return cls(**row | {"steps": [Step.of(step) for step in row["steps"]], "motion": motion})

    @property
    def success(self) -> bool:
        """Whether the right thing was done."""
        return self.outcome == RIGHT


@dataclass(frozen=True)
class Assignment:
    """Episodes of one task for one worker. sentence: a key of SENTENCES. scattered: all objects in random places, that of
    the one that is asked for never trained on. first: number of the first of the states among those of the task.

    record: whether the observations of the episodes of the first decoder are wanted. limit: of steps; 0: the suite's.
    """

    parts: Parts
    suite: str
    task: int
    states: tuple[int, ...]
    _: KW_ONLY
    seed: int
    sentence: str = TASK
    scattered: bool = False
    delay: float = 0.0
    record: bool = False
    first: int = 0
    limit: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument(
        "--suite",
        choices=SUITES + PERTURBED,
        default="libero_object",
        metavar="SUITE",
        help=f"one of {', '.join(SUITES)}, or one of them with _lan, _swap, _object, _task: LIBERO-PRO's",
    )
    parser.add_argument("--tasks", type=inputs.whole(0, TASKS_PER_SUITE - 1), nargs="+", default=list(range(TASKS_PER_SUITE)))
    parser.add_argument(
        "--episodes-per-task", type=inputs.whole(1, len(HELD_OUT_STATES)), default=10, help=f"at most {len(HELD_OUT_STATES)}"
    )
    parser.add_argument("--validation", action="store_true", help="the validation states instead of the held-out ones")
    parser.add_argument(
        "--seed", type=inputs.whole(0, 2**31 - 1), default=0, help="0: initial states as published; else objects shift by 2 cm"
    )
    parser.add_argument(
        "--places",
        choices=("published", "random"),
        default="published",
        help="random: all objects anywhere, by --seed; for scenes of objects beside a basket",
    )
    parser.add_argument(
        "--sentence",
        choices=SENTENCES,
        default=TASK,
        metavar="WHICH",
        help="; ".join(f"{name}: {what}" for name, what in SENTENCES.items()),
    )
    parser.add_argument("--delay", type=inputs.seconds, default=0.0, help="from image to start of motion [s], of simulated time")
    parser.add_argument("--steps", type=inputs.whole(0, 10**6), default=0, help="of an episode, at most; 0: the suite's number")
    parser.add_argument("--workers", type=inputs.count, default=1, help="more than one is faster, but latencies suffer")
    workers.add_cluster(parser)
    parser.add_argument("--trace", type=inputs.path, help="write the passes of every step here, as JSON lines")
    parser.add_argument("--record", type=inputs.path, help="directory for what the first decoder saw, for vla-sd bench decode")


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    states = tuple(VALIDATION_STATES if arguments.validation else HELD_OUT_STATES)[: arguments.episodes_per_task]
    given, scattered = parts(arguments), arguments.places == "random"
    if given.decoder_settings().suite == "auto":
        given = replace(given, settings=(*given.settings, ("suite", base(arguments.suite))))
    if scattered and not arguments.suite.startswith("libero_object"):
        raise ValueError(f"--places random is for libero_object: what {arguments.suite} asks for depends on where things stand")
    how = {"seed": arguments.seed, "sentence": arguments.sentence, "scattered": scattered, "delay": arguments.delay}
    how |= {"record": bool(arguments.record), "limit": arguments.steps}
    assignments = [Assignment(given, arguments.suite, task, states, **how) for task in arguments.tasks]
    episodes = _gathered(assignments, _found(assignments, arguments))
    report = {
        "suite": arguments.suite,
        "states": list(states),
        **results.provenance(arguments.checkpoint, arguments.seed),
        "sentence": arguments.sentence,
        "places": arguments.places,
        "delay": arguments.delay,
        "episodes": len(episodes) // len(given.decoders),
        **summarise(episodes, given.decoders, given.trees()),
    }
    _print(report)
    if arguments.json:
        results.write(arguments.json, report)
        Landed(arguments.json, {}).remove()
    if arguments.trace:
        trees = given.trees()
        results.write_trace(arguments.trace, [(_traced(arguments.suite, e, trees), e.steps) for e in episodes])
    return 0


def _traced(suite: str, e: EpisodeResult, trees: Mapping[str, list[int]]) -> dict:
    """What a trace says of an episode beside its steps."""
    own = {"suite": suite, "task": e.task, "state": e.state, "decoder": e.decoder, "outcome": e.outcome, "sentence": e.sentence}
    return own | ({"tree": trees[e.decoder]} if e.decoder in trees else {})


def _print(report: dict) -> None:
    for name, row in report["decoders"].items():
        low, high = row["ci95"]
        print(
            f"{name}: success {row['success_rate']:.1%} ({low:.1%} to {high:.1%}), latency {row['latency_ms']['median']:.1f} ms "
            f"median, {row['latency_ms']['p95']:.1f} ms p95, {row['forward_passes_per_action']:.2f} forward passes per action"
        )
        for outcome in (RIGHT, WRONG, NOTHING):
            share = ", ".join(f"{task}: {shares[outcome]:.0%}" for task, shares in row["outcomes"].items())
            print(f"  {outcome.replace('_', ' ')} per task: {share}")


def success_on(checkpoint: Path, suite: str, states: list[int], processes: int = 2) -> tuple[int, int]:
    """Successes and episodes of autoregressive decoding over all tasks of a suite from these initial states."""
    given = Parts(str(checkpoint.resolve()), ("autoregressive",))
    assignments = [Assignment(given, suite, task, tuple(states), seed=0) for task in range(TASKS_PER_SUITE)]
    episodes = _gathered(assignments, workers.each(run_assignment, assignments, processes=processes, lifetime=SCENES))
    return sum(episode.success for episode in episodes), len(episodes)


def _gathered(assignments: list[Assignment], found: Iterable[list[EpisodeResult]]) -> list[EpisodeResult]:
    """All that is found, in the order of tasks and states, with a bar of the progress."""
    from tqdm import tqdm

    episodes = []
    total = sum(len(a.states) * len(a.parts.decoders) for a in assignments)
    with tqdm(total=total, unit="episode", desc=assignments[0].suite) as bar:
        for done in found:
            episodes += done
            bar.update(len(done))
            bar.set_postfix(succeeded=f"{sum(e.success for e in episodes)}/{len(episodes)}")
    return sorted(episodes, key=lambda e: (e.task, e.state))


def _found(assignments: list[Assignment], arguments: argparse.Namespace) -> Iterator[list[EpisodeResult]]:
    """The episodes of each assignment, or, on a cluster, of each initial state of it; what was seen is written."""
    if not arguments.cluster:
        for episodes in workers.each(run_assignment, assignments, processes=arguments.workers, lifetime=SCENES):
            yield _recorded(episodes, arguments)
        return
    given = assignments[0].parts.elsewhere()
    paths = given.paths()
    landed, left = Landed(arguments.json, workers.made_of(paths)), []
    for unit in (replace(a, parts=given, states=(state,), first=i) for a in assignments for i, state in enumerate(a.states)):
        if rows := landed.read(unit):
            yield [EpisodeResult.of(row) for row in rows]
        else:
            left.append(unit)
    for unit, episodes in workers.each(_unit, left, lifetime=10 * SCENES, cluster=arguments.cluster, paths=paths):
        episodes = _recorded(episodes, arguments)
        landed.write(unit, [asdict(episode) for episode in episodes])
        yield episodes


def _recorded(episodes: list[EpisodeResult], arguments: argparse.Namespace) -> list[EpisodeResult]:
    """Writes what was seen, which needs no memory then."""
    for episode in episodes:
        if episode.seen:
            folder = arguments.record / arguments.suite / f"task{episode.task}"
            folder.mkdir(parents=True, exist_ok=True)
            with whole(folder / f"state{episode.state}.npz") as part:
                np.savez_compressed(part, instruction=episode.sentence, **episode.seen)
    return [replace(episode, seen=None) for episode in episodes]


def _unit(assignment: Assignment) -> tuple[Assignment, list[EpisodeResult]]:
    return assignment, run_assignment(assignment)


def run_assignment(assignment: Assignment) -> list[EpisodeResult]:
    """All episodes of an assignment, every decoder on each initial state in turn."""
    return list(_episodes(assignment))


_kept: dict[str, tuple] = {}  # the parts that this process has loaded last


def _loaded(given: Parts) -> tuple:
    """Policy and decoders, kept for the next unit of this process."""
    if (key := repr(given)) not in _kept:
        _kept.clear()
        _kept[key] = given.load()
    return _kept[key]


def _episodes(assignment: Assignment) -> Iterator[EpisodeResult]:
    from vla_sd_ros.decoding.history import History
    from vla_sd_ros.kinematics.pose import Pose
    from vla_sd_ros.sim.episode import run_episode
    from vla_sd_ros.sim.judge import State
    from vla_sd_ros.sim.scene import LiberoScene

    vla, decoders = assignment.parts.load()
    scene = LiberoScene(assignment.suite, assignment.task, vla.config.vision.image_size)
    for decoder in decoders.values():  # the first passes allocate
        decoder.decide(scene.render(), scene.instruction)
    for state, sentence, goal in _asked(assignment, scene):
        for name, decoder in decoders.items():
            history, steps, images, actions = History(vla.statistics), [], [], []

            def act(image: np.ndarray) -> np.ndarray:
                history.see(Pose(*scene.ee_pose()))
                decision = decoder.decide(image, sentence, history)
                history.record(decision.bins)
                steps.append(step_of(decision))
                images.append(image.copy())
                actions.append(decision.action)
                return decision.action

            scene.reset(state, 0 if assignment.scattered else assignment.seed)
            if assignment.scattered:
                _scatter(scene, goal, np.random.default_rng([assignment.seed, assignment.task, state]))
            judge, start = judge_of(scene, sentence, goal), Pose(*scene.ee_pose())
            over = lambda: judge.look(scene.time)[0] == State.SUCCESS or len(steps) == assignment.limit  # noqa: E731
            run_episode(scene, act, assignment.delay, over)
            outcome = {State.SUCCESS: RIGHT, State.FAILURE: WRONG}.get(judge.look(scene.time)[0], NOTHING)
            seen = _seen(images, history) if assignment.record and decoder is next(iter(decoders.values())) else None
            yield EpisodeResult(assignment.task, state, name, outcome, steps, sentence, seen, motion_of(start, actions))
    scene.close()


def _asked(assignment: Assignment, scene) -> Iterator[tuple[int, str, list[list[str]]]]:
    """Initial state, sentence and the goal's predicates of each episode. ValueError where the scene has no such sentence."""
    from vla_sd_ros.sim import sentences
    from vla_sd_ros.sim.jobs import tasks_with_sentences

    own, wanted = [(scene.instruction, scene.goal())], assignment.sentence
    if wanted in (OTHER, EACH):
        tasks = tasks_with_sentences(scene)
        own = [(sentence, [list(job.predicate) for job in task]) for task, sentence in tasks][wanted == OTHER :]
    elif wanted == HELD_OUT:
        own = [(sentence, scene.goal()) for sentence in sentences.held_out(scene.instruction)]
    if not own:
        raise ValueError(f"{assignment.suite} task {assignment.task} has no sentence of the kind {wanted!r}")
    for i, state in enumerate(assignment.states, assignment.first):
        for sentence, goal in own if wanted == EACH else [own[i % len(own)]]:
            yield state, sentence, goal


def _scatter(scene, goal: list[list[str]], rng: np.random.Generator) -> None:
    """All objects of the scene in random places; the one that is asked for in one that is held out."""
    from vla_sd_ros.sim.arranging import scatter

    asked = goal[0][1]
    while asked not in scatter(scene, rng, scene.object_names(), {asked: True}):
        pass


def judge_of(scene, sentence: str, goal: list[list[str]]):
    """Watches this goal in the scene as it is now, and whether something else is done instead."""
    from vla_sd_ros.sim.judge import Judge, Things

    return Judge(Things(scene.object_names(), scene.fixture_names(), sentence, goal), sentence, scene.holds)


def _seen(images: list[np.ndarray], history) -> dict[str, Any]:
    """What the decoder saw, as EpisodeResult has it."""
    return {
        "images": np.array(images),
        "bins": np.array(history.bins),
        "positions": np.array([m.position for m in history.measured]),
        "rotations": np.array([m.rotation for m in history.measured]),
    }


def along(episodes: list[list[Step]]) -> dict[str, list[float]]:
    """Means over the tenths of the episodes, first to last: forward passes, and the time of an action [ms]."""
    tenth = np.concatenate([np.arange(len(steps)) * 10 // len(steps) for steps in episodes])
    steps = [step for episode in episodes for step in episode]
    columns = {"passes": [len(s.passes) for s in steps], "latency_ms": [s.timings_ms["total"] for s in steps]}
    return {
        name: [float(np.mean(np.array(column)[tenth == t]).round(3)) for t in sorted(set(tenth))]
        for name, column in columns.items()
    }


def summarise(episodes: list[EpisodeResult], decoders: tuple[str, ...], trees: Mapping[str, list[int]] = NO_TREES) -> dict:
    """The results file's "decoders" and "floor_ms" (vision and one prefill, median of the first decoder's steps)."""
    rows = {}
    for name in decoders:
        own = [episode for episode in episodes if episode.decoder == name]
        successes = sum(episode.success for episode in own)
        rows[name] = {
            "success_rate": successes / len(own),
            "ci95": list(wilson(successes, len(own))),
            "per_task": {
                str(task): float(np.mean([e.success for e in own if e.task == task])) for task in sorted({e.task for e in own})
            },
            "outcomes": {
                str(task): {
                    kind: float(np.mean([e.outcome == kind for e in own if e.task == task])) for kind in (RIGHT, WRONG, NOTHING)
                }
                for task in sorted({e.task for e in own})
            },
            **results.step_row([step for episode in own for step in episode.steps]),
            "along": along([episode.steps for episode in own]),
            **row_of([episode.motion for episode in own if episode.motion]),
            **({"tree": trees[name]} if name in trees else {}),
        }
    results.add_ratios(rows)
    floor = [
        step.timings_ms["vision"] + step.timings_ms["prefill"]
        for episode in episodes
        if episode.decoder == decoders[0]
        for step in episode.steps
    ]
    return {"decoders": rows, "floor_ms": round(float(np.median(floor)), 3)}
