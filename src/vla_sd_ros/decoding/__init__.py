# SPDX-License-Identifier: Apache-2.0
"""Decoders: from the verifier's logits to the seven tokens of one action. No ROS in here."""
from vla_sd_ros.decoding.autoregressive import Autoregressive
from vla_sd_ros.decoding.decision import Decision

DECODERS = {Autoregressive.name: Autoregressive}


def make(name: str, vla) -> Autoregressive:
    """The decoder of this name over a loaded policy; ValueError for an unknown name."""
    if name not in DECODERS:
        raise ValueError(f"unknown decoder {name!r}: choose one of {', '.join(sorted(DECODERS))}")
    return DECODERS[name](vla)


__all__ = ["DECODERS", "Decision", "make"]
