# SPDX-License-Identifier: Apache-2.0
"""The stages of an adaptation, one after the other. Each leaves a file that only a whole one has, and is skipped where it is there.

    work/answers/                       what the policy says to the images: answers.py
    work/calibrate/, work/measure/      held-out episodes, as observations
    draft_head.safetensors, drafter.safetensors, database/
    work/settings.json, work/measured.json
    decoder.yaml, report.md, report.png, bundle.json

The policy is loaded for the first stage, and again to calibrate and to measure; there is never more than one.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from vla_sd_ros import inputs, policy
from vla_sd_ros.adapt import estimate, observations
from vla_sd_ros.adapt import plan as plans
from vla_sd_ros.adapt.choice import Agreement, Row, choose, rows
from vla_sd_ros.adapt.report import Findings, write_report
from vla_sd_ros.assembly import Choice, free_memory
from vla_sd_ros.assembly.bundle import DATABASE, META, PARAMETERS, Bundle, statistics_digest
from vla_sd_ros.assembly.bundle import read as read_bundle
from vla_sd_ros.assembly.bundle import write as write_bundle
from vla_sd_ros.bench import project
from vla_sd_ros.bench.cost import RELEASED, reach_of
from vla_sd_ros.bench.decode import measure, replay
from vla_sd_ros.bench.parts import Parts as BenchParts
from vla_sd_ros.bench.price import Played
from vla_sd_ros.decoding.parameter_file import check_settings
from vla_sd_ros.decoding.settings import DECODERS, Settings
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.actions import ActionStatistics
from vla_sd_ros.policy.config import FusedVisionConfig
from vla_sd_ros.policy.drafter import FILE as DRAFTER
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.recordings import Episode, Recordings
from vla_sd_ros.recordings import command as recordings_command
from vla_sd_ros.retrieval import Origin
from vla_sd_ros.retrieval.build import Collected
from vla_sd_ros.training import answers, asking, asking_nodes, calibrate, train_drafter, train_head
from vla_sd_ros.training.loop import write_whole
from vla_sd_ros.training.variations import Copies
from vla_sd_ros.whole_files import read_json

WORK, SKIPPED = "work", "skipped.json"
PROJECTED = ("4090", "h100", "orin", "thor")  # devices of bench/project.py
RATE_OPENVLA = 5e-5  # learning rate of the drafter; Spec-VLA


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """What all stages share. table: of units. every: only each N-th image is used. most_images: that the policy is asked about."""

    arguments: argparse.Namespace
    output: Path
    recordings: Recordings
    table: str
    sentences: int
    parts: plans.Parts
    unnorm_key: str
    statistics: ActionStatistics
    every: int
    most_images: int

    @property
    def work(self) -> Path:
        """Folder of what is half made; an interrupted adaptation goes on from it."""
        return self.output / WORK

    def episodes(self, part: str) -> Iterator[tuple[str, Episode]]:
        """The name and the episode of each recording of a part (one of PARTS), read anew each time."""
        return self.parts.among(self.recordings, part)


@dataclass(frozen=True)
class Part:
    """The episodes of a part, read anew each time."""

    of: Adaptation
    part: str

    def __iter__(self) -> Iterator[Episode]:
        return (episode for _, episode in self.of.episodes(self.part))


def adapt(arguments: argparse.Namespace) -> None:
    """Make the bundle, or what is left of it. Raises BadInput, with one sentence, for what cannot be used."""
    output = inputs.writable_folder(arguments.output, "--output")
    recordings, inventory = recordings_command.take_stock(arguments, arguments.source)
    keys = [key for key, _ in answers.named(recordings)]
    parts = plans.Parts.of(keys, arguments.held_out)
    every = -(-len(inventory.actions) // arguments.most)
    vla = asking.load(arguments, tuple(arguments.largest_step))
    work = inputs.writable_folder(output / WORK, "--output")
    plans.begin(work, plans.plan(arguments, vla, keys, every))
    if _made(output):
        return
    table = inventory.table(vla.unnorm_key, vla.statistics.q01, vla.statistics.q99)
    print(table, flush=True)
    this = Adaptation(
        arguments=arguments,
        output=output,
        recordings=recordings,
        table=table,
        sentences=len(inventory.sentences),
        parts=parts,
        unnorm_key=vla.unnorm_key,
        statistics=vla.statistics,
        every=every,
        most_images=-(-len(inventory.actions) // every) * (1 + arguments.copies),
    )
    print(f"{len(parts.learn)} episodes to learn from, {len(parts.calibrate)} to calibrate on, {len(parts.measure)} to measure on")
    if not (output / DRAFTER).exists():  # said before anything long begins
        estimate.tell(vla, arguments, this.most_images, output)
    ask(this, vla)
    del vla
    free_memory()
    head(this)
    drafter(this)
    database(this)
    settings = fitted(this)
    found = measured(this, settings)
    finish(this, settings, found)


def _made(output: Path) -> bool:
    """Whether the bundle is there already. Raises BundleError where it is damaged."""
    if not (output / META).exists():
        return False
    read_bundle(output)
    print(f"the bundle in {output} is whole; remove it to make another one")
    return True


def ask(this: Adaptation, vla: Vla) -> None:
    """What the policy says to the images, and the held-out episodes as observations."""
    for part in ("calibrate", "measure"):
        folder, most = this.work / part, this.arguments.observations
        if not observations.write(this.episodes(part), folder, vla.statistics, most, this.recordings.skip):
            raise _none_usable(this, part)
    if (this.output / DRAFTER).exists() and (this.output / DATABASE).exists():
        return
    with tqdm(total=this.most_images, unit="image", desc="asking the policy") as bar:
        episodes = chain(Copies(Part(this, "learn"), this.arguments.copies), Part(this, "calibrate"))
        a, folder, skip = this.arguments, this.work / "answers", this.recordings.skip
        if a.cluster:
            asked = asking_nodes.Asked.of(a, vla)
            asking_nodes.ask(a.cluster, asked, vla, episodes, folder, skip, every=this.every, stepped=bar.update)
        else:
            answers.ask(vla, episodes, folder, skip, rows=a.images, every=this.every, stepped=bar.update)
    recordings_command.tell_skipped(this.recordings)
    told = json.dumps(this.recordings.told())
    if not (this.work / SKIPPED).exists() or (this.work / SKIPPED).read_text() != told:
        write_whole(this.work / SKIPPED, lambda part: part.write_text(told))


def _answered(this: Adaptation, part: str, copies: bool = False) -> list[answers.Answered]:
    """The whole episodes of a part, with the copies of them or without."""
    wanted = getattr(this.parts, part)
    digests = {key[:16] for key in wanted}
    found = [e for e in answers.answered(this.work / "answers") if e.key in wanted or copies and e.key[:16] in digests]
    if not found:
        raise _none_usable(this, part)
    return found


def _none_usable(this: Adaptation, part: str) -> inputs.BadInput:
    purpose, reasons = f"{part} {'from' if part == 'learn' else 'on'}", "; ".join(this.recordings.told())
    return inputs.BadInput(f"none of the episodes to {purpose} can be used ({reasons}): record more, or mend these")


def head(this: Adaptation) -> None:
    """The draft head, where it is not there yet."""
    output, a = this.output / checkpoint.DRAFT_HEAD, this.arguments
    if not output.exists():
        how = train_head.Training(
            steps=a.head_steps, batch_size=a.head_batch, seed=a.seed, memory=a.memory * 1_000_000, device=a.device
        )
        train_head.train(
            a.checkpoint, this.work / "answers", _answered(this, "learn", copies=True), _answered(this, "calibrate"), output, how
        )


def drafter(this: Adaptation) -> None:
    """The drafter, where it is not there yet."""
    output, a = this.output / DRAFTER, this.arguments
    if output.exists():
        return
    openvla = isinstance(checkpoint.shape_of(a.checkpoint).vision, FusedVisionConfig)
    processes = min(a.processes, a.drafter_batch) if a.device == "cpu" else 1
    standard = train_drafter.Training()
    how = train_drafter.Training(
        steps=a.drafter_steps,
        batch_size=a.drafter_batch,
        learning_rate=a.drafter_rate or (RATE_OPENVLA if openvla else standard.learning_rate),
        warm_up=min(standard.warm_up, a.drafter_steps),
        seed=a.seed,
        memory=a.memory * 1_000_000 // processes,
        device=a.device,
        processes=processes,
    )
    learnt, measured = _answered(this, "learn", copies=True), _answered(this, "calibrate")
    train_drafter.train(a.checkpoint, this.work / "answers", learnt, measured, output, how)


def database(this: Adaptation) -> None:
    """The trajectory database, where it is not there yet: of the episodes that are learnt from alone."""
    output, part = this.output / DATABASE, this.output / f"part.{DATABASE}"
    if output.exists():
        return
    collected = Collected()
    for episode in _answered(this, "learn"):
        seen = [
            (int(step), features.numpy())
            for shard in answers.each(answers.shards_of([episode]), ("steps", "features"))
            for step, features in zip(shard["steps"], shard["features"])
        ]
        collected.add(episode.name, episode.instruction, episode.actions, seen)
    a = this.arguments
    origin = Origin(name_of(a.checkpoint), policy.fingerprint(a.checkpoint), tuple(str(path) for path in a.source))
    shutil.rmtree(part, ignore_errors=True)
    collected.database(origin).save(part)
    part.rename(output)


def name_of(source: str | Path) -> str:
    """A checkpoint's name, for people."""
    return Path(str(source)).name


def _parts(this: Adaptation, decoders: tuple[str, ...] = (), settings: dict | None = None) -> BenchParts:
    a, folder = this.arguments, str(this.output.absolute())  # without a / it would be the name of a shipped one
    return BenchParts(
        a.checkpoint,
        decoders,
        settings=tuple((settings or {}).items()),
        database=f"{folder}/{DATABASE}",
        drafter=folder,
        threads=a.threads,
        quantization=a.quantization,
        largest_step=tuple(a.largest_step),
        device=a.device,
        dtype=a.dtype,
        unnorm_key=this.unnorm_key,
        draft_head=folder,
    )


def fitted(this: Adaptation) -> dict:
    """The decoders' settings, the shape of the drafter's tree among them, from the first half of what was held out; those that it
    does not tell keep their defaults."""
    path = this.work / "settings.json"
    if not path.exists():
        model, most = _parts(this, ("spec_vla",)).model(), this.arguments.observations
        steps = partial(replay, model.vla, this.work / "calibrate", most)
        found = calibrate.calibrate(model, steps, tree_steps=min(most, this.arguments.tree_steps))
        write_whole(path, lambda part: part.write_text(json.dumps(found.settings, indent=1) + "\n"))
        free_memory()
    return check_settings(read_json(path))


def measured(this: Adaptation, settings: dict) -> dict:
    """Every decoder on the second half, and the policy against what was recorded."""
    path = this.work / "measured.json"
    if not path.exists():
        given = _parts(this, DECODERS, settings)
        found = measure(given, this.work / "measure", this.arguments.observations, this.arguments.seed, as_quantised=True)
        plain = [answer.plain for answer in found["autoregressive"]]
        agreement = Agreement.of(np.array(plain), observations.recorded(this.work / "measure")[: len(plain)])
        report = {
            "rows": [asdict(row) for row in rows(found)],
            "agreement": asdict(agreement),
            "projected": _projected(this, found, settings),
        }
        write_whole(path, lambda part: part.write_text(json.dumps(report, indent=1) + "\n"))
        free_memory()
    return read_json(path)


def _projected(this: Adaptation, found: dict, settings: dict) -> dict[str, dict[str, float]]:
    """Mean milliseconds of an action by device and decoder, of the passes that were measured, on devices that are not here."""
    trees = {
        name: (nodes, levels, continuations)
        for name, (nodes, levels, continuations) in _parts(this, DECODERS, settings).trees().items()
    }
    actions = {
        name: [Played(answer.step.path, answer.step.passes, trees.get(name, RELEASED), reach_of(name)) for answer in own]
        for name, own in found.items()
        if name != "autoregressive"
    }
    sizes = project.Sizes.of(project.config_of(this.arguments.checkpoint), this.arguments.quantization)
    return {
        device.name: {name: row["latency_ms"]["mean"] for name, row in project.project(actions, device, sizes).items()}
        for device in (project.DEVICES[name] for name in PROJECTED)
    }


def finish(this: Adaptation, settings: dict, found: dict) -> None:
    """The decoder, the report, and at last what makes it a bundle."""
    a, measurements = this.arguments, [Row(**row) for row in found["rows"]]
    chosen = choose(measurements)
    findings = Findings(
        checkpoint=name_of(a.checkpoint),
        unnorm_key=this.unnorm_key,
        sources=[str(path) for path in a.source],
        units=this.table,
        counts={part: len(getattr(this.parts, part)) for part in plans.PARTS},
        sentences=this.sentences,
        every=this.every,
        skipped=read_json(this.work / SKIPPED),
        settings=settings,
        rows=measurements,
        chosen=chosen.name,
        agreement=Agreement(**found["agreement"]),
        device=a.device,
        projected=found["projected"],
    )
    parameters = {"/**/vla_node": {"ros__parameters": {"decoder": {"name": chosen.name, **settings}}}}
    comment = "".join(f"# {line}".rstrip() + "\n" for line in findings.heading().splitlines())
    write_whole(this.output / PARAMETERS, lambda part: part.write_text(comment + yaml.safe_dump(parameters, sort_keys=False)))
    write_report(this.output, findings)
    bundle = Bundle(
        this.output,
        name_of(a.checkpoint),
        checkpoint.weights_fingerprint(a.checkpoint),
        this.unnorm_key,
        statistics_digest(this.statistics),
        Choice(chosen.name, Settings(**settings), this.unnorm_key),
    )
    write_bundle(bundle, findings.sources, {"decoder": chosen.name, "episodes": findings.counts})
    if not a.keep_work:
        shutil.rmtree(this.work / "answers", ignore_errors=True)
    print(findings.table())
    print(f"{chosen.name}: the bundle is in {this.output}, and what was found in {this.output / 'report.md'}")
