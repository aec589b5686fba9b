# SPDX-License-Identifier: Apache-2.0
"""What decides, whatever it is made of: a policy in this process, a client's seat at one, or a server's."""

import argparse
from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, NamedTuple, Protocol

import numpy as np

from vla_sd_ros.decoding.decision import Decision
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.kinematics.pose import Pose


@dataclass(frozen=True)
class Source:
    """Where a policy and what its decoders draw on are found; each as policy.load(), load_drafter(), open_database() take it.

    drafter: empty: the checkpoint's own, if it has one. draft_head: a directory that has one; empty: the checkpoint's own.
    database: empty: the checkpoint's own, if it has one. adapted: bundle of `vla-sd adapt`, which has what of these is not
    named; empty: none. largest_step [m], [rad]: what the action statistics may hold along an axis; more are other units, and
    refused. None: whatever. real_arm: a policy of the simulator is refused.
    """

    checkpoint: str
    _: KW_ONLY
    device: str = "cpu"
    unnorm_key: str = ""
    threads: int = 0
    dtype: str = ""
    quantization: str = "none"
    drafter: str = ""
    database: str = ""
    draft_head: str = ""
    adapted: str = ""
    largest_step: tuple[float, float] | None = None
    real_arm: bool = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Source":
        """As the options of the same names of a command say; what it has no option for keeps its default."""
        given: dict[str, Any] = {}
        for name in (field.name for field in fields(cls) if field.name in arguments):
            value = getattr(arguments, name)
            given[name] = tuple(value) if isinstance(value, list) else value  # argparse makes lists
        return cls(**given)


@dataclass(frozen=True)
class Address:
    """A policy server: see serving/remote.py."""

    url: str
    timeout: float = 2.0
    key_file: str = ""
    image_key: str = "observation/image"


class Choice(NamedTuple):
    """What of a brain can change from one step to the next: the decoder's name, its settings, the key of the statistics."""

    decoder: str = "autoregressive"
    settings: Settings = Settings()
    unnorm_key: str = ""


class EpisodeRecord(Protocol):
    """What has been done since the beginning of a goal, as far as deciding needs it. Its length: actions so far."""

    def __len__(self) -> int: ...

    def see(self, measured: Pose | None) -> None:
        """A new step begins: the end effector was there when its image was taken."""

    def record(self, bins: np.ndarray) -> None:
        """The step's action, as bins (7,), was commanded."""

    def interrupt(self) -> None:
        """The arm is held, or its image late: what was foreseen of the next step holds no longer. From any thread."""


class Brain(Protocol):
    """One thread decides: begin() and decide(). Everything else may come from any thread, while it does."""

    @property
    def name(self) -> str:
        """That of the decoder."""

    def self_test(self) -> str:
        """One line about it; raises where it cannot be what it should."""

    def begin(self) -> EpisodeRecord:
        """The record of a new goal."""

    def decide(self, image: np.ndarray, instruction: str, record: Any = None, /) -> Decision:
        """The action for image (H, W, 3) uint8 RGB; record: of this brain's begin(), or None for a first step.

        Raises where the action is not finite.
        """

    def too_long(self, instruction: str) -> str:
        """Why an instruction cannot be read, as a sentence; empty when it can."""

    def unknown_words(self, instruction: str) -> list[str]:
        """Words that it was never trained on."""

    def check(self, choice: Choice, changed: Collection[str]) -> None:
        """Raises ValueError, with one sentence, for a choice that is known not to work. changed: names of parameters."""

    def use(self, choice: Choice) -> None:
        """Decide so from the next step on. Returns at once: what has to be made for it is made by the thread that decides."""

    def close(self) -> None:
        """Nothing more is asked. A decide() that waits for somebody else raises."""


def warm_up(brain: Brain) -> None:
    """The first decisions allocate and compile, or show that a server takes what it is sent."""
    for _ in range(2):
        brain.decide(np.zeros((256, 256, 3), np.uint8), "warm up")
