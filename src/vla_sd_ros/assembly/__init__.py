# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint, a drafter, a database and settings, or from a server's address, to what decides. No ROS in here.

    brain = open_brain(Source("libero", drafter="./drafter"), Choice("kerv"))   # or of an Address
    record = brain.begin()
    record.see(measured)
    decision = brain.decide(image, instruction, record)
    record.record(decision.bins)

torch is imported by what opens a Source, not before.
"""

import gc
import sys

from vla_sd_ros.assembly.brain import Address, Brain, Choice, EpisodeRecord, Source, warm_up

__all__ = ["Address", "Brain", "Choice", "EpisodeRecord", "Source", "free_memory", "open_brain", "warm_up"]


def open_brain(where: Source | Address, choice: Choice = Choice()) -> Brain:
    """A policy that is loaded here, or the one of a server. Raises ValueError, OSError or RuntimeError with one sentence.

    choice: of the decoder, for a Source; a server has its own.
    """
    if isinstance(where, Source):
        from vla_sd_ros.assembly.local import LocalBrain, load

        return LocalBrain(load(where), choice)
    try:
        from vla_sd_ros.serving.remote import RemotePolicy
    except ModuleNotFoundError as error:
        raise RuntimeError(f"policy.remote needs {error.name}: pip install 'vla_sd_ros[serve]'") from error
    return RemotePolicy(where.url, where.timeout, where.key_file, where.image_key)


def free_memory() -> None:
    """Give back what models took that nobody holds any more: they refer to themselves, and would stay beside the next one."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
