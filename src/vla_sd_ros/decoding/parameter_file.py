# SPDX-License-Identifier: Apache-2.0
"""The decoders' settings in a ROS parameter file, for programs that are no nodes."""
from dataclasses import fields, replace
from pathlib import Path

import yaml

from vla_sd_ros.decoding.settings import Settings


def read_settings(path: str | None) -> dict:
    """The settings by name of a file of vla-sd calibrate or of a node; none without a file. Raises ValueError."""
    return {} if path is None else read_parameters(path)[1]


def read_parameters(path: str) -> tuple[str, dict]:
    """The decoder's name, empty where it says none, and its settings by name, of the same kinds of file. Raises ValueError."""
    try:
        nodes = yaml.safe_load(Path(path).read_text())
        parameters = [node.get("ros__parameters", {}) for node in nodes.values()]
        found = [entry["decoder"] for entry in parameters if "decoder" in entry]
    except (OSError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not a parameter file ({error})") from error
    if not found:
        raise ValueError(f"{path} has no parameters of a decoder: vla-sd calibrate makes such a file")
    settings = check_settings({name: value for name, value in found[0].items() if name != "name"})
    return str(found[0].get("name", "")), settings


def check_settings(settings: dict) -> dict:
    """The same settings. Raises ValueError, with one sentence, for one that does not exist or a bad value."""
    known = {entry.name for entry in fields(Settings)}
    for name in settings:
        if name not in known:
            raise ValueError(f"unknown setting {name!r}: choose one of {', '.join(sorted(known))}")
    replace(Settings(), **settings)
    return settings
