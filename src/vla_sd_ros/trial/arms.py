# SPDX-License-Identifier: Apache-2.0
"""What is compared: a decoder with settings of its own, as parameters of vla_node. No ROS in here."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from vla_sd_ros.decoding.parameter_file import check_settings
from vla_sd_ros.decoding.settings import DECODERS, Settings
from vla_sd_ros.inputs import BadInput


@dataclass(frozen=True)
class Arm:
    """An arm of the study, in the statisticians' sense. parameters: of vla_node, by name."""

    name: str
    parameters: dict[str, object]


def read_arm(text: str) -> Arm:
    """DECODER, or DECODER@SETTING=VALUE@..., as in vla-sd bench; a SETTING with a dot is any parameter of vla_node.

    The entries of a list are parted by +. Raises BadInput.
    """
    decoder, *given = text.split("@")
    if decoder not in DECODERS:
        raise BadInput(f"--arm {text}: there is no decoder {decoder!r}; choose one of {', '.join(DECODERS)}")
    parameters: dict[str, object] = {"decoder.name": decoder}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise BadInput(f"--arm {text}: {pair!r} is no SETTING=VALUE")
        try:
            parameters |= _setting(name, value)
        except (ValueError, yaml.YAMLError) as error:
            raise BadInput(f"--arm {text}: {error}") from error
    return Arm(re.sub(r"[^A-Za-z0-9.=-]+", "_", text.replace("=", "-"))[:64].strip("_"), parameters)


def _setting(name: str, value: str) -> dict[str, object]:
    if "." in name and not name.startswith("decoder."):
        return {name: yaml.safe_load(value)}
    name = name.removeprefix("decoder.")
    default = getattr(Settings(), name, None)
    read: Any = [yaml.safe_load(entry) for entry in value.split("+")] if isinstance(default, list) else yaml.safe_load(value)
    check_settings({name: read})
    # ROS knows no 15 where it wants 15.0.
    return {f"decoder.{name}": float(read) if isinstance(default, float) else read}


def read_arms(texts: list[str]) -> list[Arm]:
    """The arms, the first of which is the control. Raises BadInput."""
    arms = [read_arm(text) for text in texts]
    names = [arm.name for arm in arms]
    if len(arms) < 2:
        raise BadInput("a trial compares at least two: give --arm twice, the one to compare with first")
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"--arm {twice[0]} is there twice: give each once")
    return arms
