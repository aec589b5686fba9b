# SPDX-License-Identifier: Apache-2.0
"""A policy in this process, and the decoders over it."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_sd_ros import policy
from vla_sd_ros.assembly.brain import Choice, Source
from vla_sd_ros.assembly.bundle import DATABASE, Bundle
from vla_sd_ros.assembly.bundle import read as read_bundle
from vla_sd_ros.checkpoint_places import refuse_unusable
from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.decision import Decision
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.drafter import Drafter, comes_with, load_drafter
from vla_sd_ros.policy.self_test import self_test
from vla_sd_ros.policy.vla import Vla
from vla_sd_ros.retrieval import open_database


@dataclass(frozen=True)
class Model:
    """A loaded policy with what its decoders may draw on. database: anything of retrieval.open_database(). bundle: that they
    come from, if they do."""

    vla: Vla
    drafter: Drafter | None = None
    database: Any = None
    bundle: Bundle | None = None

    def decoder(self, name: str, settings: Settings = Settings(), vla: Vla | None = None):
        """A new decoder over the policy, or over a seat at it. Raises ValueError as factory.make()."""
        return factory.make(name, self.vla if vla is None else vla, settings, self.drafter, self.database)

    def check(self, choice: Choice) -> None:
        """Raises ValueError, with one sentence, for a decoder that cannot be made or statistics that cannot be used."""
        key = self.vla.key_of(choice.unnorm_key)
        if self.bundle:
            self.bundle.check(key, self.vla.statistics_of(key))
        factory.check(choice.decoder, self.drafter is not None, self.database is not None)


def load(source: Source, decoders: Collection[str] | None = None) -> Model:
    """Load and open everything. Raises ValueError with one sentence.

    decoders: names of those that will be made; the drafter is opened only where one of them needs it. None: any may be.
    """
    if source.real_arm:
        refuse_unusable(source.checkpoint, real_arm=True)
    bundle = read_bundle(source.adapted) if source.adapted else None
    if bundle:
        source = bundle.complete(source)
    vla = policy.load(
        source.checkpoint,
        source.device,
        source.unnorm_key,
        source.threads,
        source.dtype,
        quantization=source.quantization,
        largest_step=source.largest_step,
    )
    if bundle:
        bundle.check(vla.unnorm_key, vla.statistics)
    if source.draft_head:
        vla.use_draft_head(checkpoint.draft_head(Path(source.draft_head), vla.config))
    return Model(vla, _drafter(source, vla, decoders), _database(source, vla), bundle)


def _drafter(source: Source, vla: Vla, decoders: Collection[str] | None) -> Drafter | None:
    if decoders is None:
        wanted = source.drafter or comes_with(source.checkpoint)
    else:
        wanted = any("drafter" in factory.RECIPES[name].needs for name in factory.RECIPES.keys() & set(decoders))
    return load_drafter(source.drafter or source.checkpoint, vla) if wanted else None


def has_database(source: Source) -> bool:
    """Whether the decoders that retrieve would have something to ask: before a policy is loaded."""
    return bool(source.database or source.adapted or checkpoint.part_of(source.checkpoint, DATABASE))


def _database(source: Source, vla: Vla):
    place = source.database or checkpoint.part_of(source.checkpoint, DATABASE)
    return open_database(str(place), vla.feature_size, policy.fingerprint(source.checkpoint)) if place else None


class LocalBrain:
    """See Brain. vla: the model's policy, or a seat at it. The decoder is its own: decoders learn from step to step.

    choice: without an unnorm_key the statistics that the policy has now.
    """

    def __init__(self, model: Model, choice: Choice = Choice(), vla: Vla | None = None):
        self._model, self._vla = model, model.vla if vla is None else vla
        choice = choice._replace(unnorm_key=choice.unnorm_key or self._vla.unnorm_key)
        self.check(choice, ())
        self._decoder: Any = None
        self._made: Choice | None = None  # for which it was made
        self.use(choice)

    @property
    def name(self) -> str:
        return self.choice.decoder

    def self_test(self) -> str:
        return self_test(self._model.vla)

    def begin(self) -> History:
        self._follow()
        return History(self._vla.statistics)

    def decide(self, image: np.ndarray, instruction: str, record: History | None = None) -> Decision:
        self._follow()
        if record is not None:
            record.statistics = self._vla.statistics
        decision = self._decoder.decide(image, instruction, record)
        if not np.all(np.isfinite(decision.action)):
            raise ValueError("the checkpoint gave an action that is not finite; its weights or statistics are damaged")
        return decision

    def too_long(self, instruction: str) -> str:
        return self._vla.prompts.too_long(instruction)

    def unknown_words(self, instruction: str) -> list[str]:
        return self._vla.prompts.unknown_words(instruction)

    def check(self, choice: Choice, changed: Collection[str]) -> None:
        self._model.check(choice)

    def use(self, choice: Choice) -> None:
        self.choice = choice._replace(unnorm_key=self._vla.key_of(choice.unnorm_key))

    def close(self) -> None:
        """Nothing to do: whoever holds the brain holds the model."""

    def _follow(self) -> None:
        """What was chosen meanwhile takes effect: the statistics at every step, for others may use the same policy."""
        choice = self.choice
        self._vla.unnorm_key = choice.unnorm_key
        if choice != self._made:
            self._decoder = None  # before there is another one
            self._decoder = self._model.decoder(choice.decoder, choice.settings, self._vla)
            self._made = choice
