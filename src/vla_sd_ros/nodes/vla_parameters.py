# SPDX-License-Identifier: Apache-2.0
"""The parameters of vla_node, and what they mean for a goal."""

from dataclasses import fields
from typing import Any

from vla_sd_msgs.action import ExecuteInstruction

from vla_sd_ros.assembly import Address, Choice, Source
from vla_sd_ros.decoding.settings import DECODERS, Settings
from vla_sd_ros.inputs import CHECKPOINT
from vla_sd_ros.nodes.matching import QOS
from vla_sd_ros.nodes.parameters import ParameterSpec
from vla_sd_ros.watching.goal import GoalLimits

MAX_TIME_LIMIT = 3600.0  # s
MAX_STEP_LIMIT = 100_000
LIVE = ("policy.unnorm_key",)  # of the parameters of the policy
UNCONFIGURED_ONLY = "Changeable only while the node is unconfigured."


def decoder_parameters() -> tuple[ParameterSpec, ...]:
    """One parameter for each setting of the decoders."""
    defaults = Settings()
    return tuple(
        ParameterSpec(
            f"decoder.{entry.name}",
            getattr(defaults, entry.name),
            f"{entry.metadata['description']} Effective at the next step.",
            entry.metadata["low"],
            entry.metadata["high"],
            tuple(entry.metadata["choices"]),
        )
        for entry in fields(Settings)
    )


TABLE = (
    ParameterSpec(
        "policy.checkpoint",
        CHECKPOINT,
        f"Checkpoint directory, as a path with a / in it, or the name of one that ships with the package. {UNCONFIGURED_ONLY}",
    ),
    ParameterSpec("policy.device", "cpu", f"Torch device of the model: cpu, cuda, cuda:1. {UNCONFIGURED_ONLY}"),
    ParameterSpec(
        "policy.unnorm_key",
        "",
        "Key of the action statistics in the checkpoint; empty where it has only one. Effective at the next step.",
    ),
    ParameterSpec(
        "policy.largest_translation",
        0.25,
        "Largest translation along an axis that the action statistics may hold [m]; more are other units, and refused. "
        f"{UNCONFIGURED_ONLY}",
        0.001,
        10.0,
    ),
    ParameterSpec("policy.largest_rotation", 1.25, f"The same for the rotation [rad]. {UNCONFIGURED_ONLY}", 0.005, 10.0),
    ParameterSpec("policy.threads", 0, f"CPU threads of the model; 0: the library's choice. {UNCONFIGURED_ONLY}", 0, 256),
    ParameterSpec(
        "policy.dtype",
        "",
        f"Precision of OpenVLA's weights; empty: as they are stored. {UNCONFIGURED_ONLY}",
        choices=("", "bfloat16", "float16", "float32"),
    ),
    ParameterSpec(
        "policy.quantization",
        "none",
        f"Of the matrices of the language model's layers, by torchao. {UNCONFIGURED_ONLY}",
        choices=("none", "int8", "int4", "fp8"),
    ),
    ParameterSpec(
        "policy.database",
        "",
        "Trajectory database for the decoders that retrieve, a directory or the URL of a Qdrant server; empty: the checkpoint's "
        f"own, if it has one. {UNCONFIGURED_ONLY}",
    ),
    ParameterSpec(
        "policy.drafter",
        "",
        "Drafter for the decoders that draft, a directory or a file; empty: the checkpoint's own, if it has one. "
        f"{UNCONFIGURED_ONLY}",
    ),
    ParameterSpec(
        "policy.adapted",
        "",
        "Bundle of vla-sd adapt, a directory: draft head, drafter, database, and the decoder with its settings, which configure "
        f"makes those of decoder.*; empty: none. {UNCONFIGURED_ONLY}",
    ),
    ParameterSpec(
        "policy.real_arm", False, f"Whether a real arm follows: a policy of the simulator is refused then. {UNCONFIGURED_ONLY}"
    ),
    ParameterSpec(
        "policy.remote",
        "",
        "Policy server that decides instead of a local model, ws://host:port of vla-sd serve or openpi; empty: none. "
        f"{UNCONFIGURED_ONLY}",
    ),
    ParameterSpec(
        "policy.remote_timeout",
        2.0,
        f"Time for connecting to the policy server, and for each of its answers [s]. {UNCONFIGURED_ONLY}",
        0.05,
        60.0,
    ),
    ParameterSpec("policy.remote_key_file", "", f"File with the policy server's API key; empty: none. {UNCONFIGURED_ONLY}"),
    ParameterSpec(
        "policy.remote_image_key", "observation/image", f"Under which the policy server expects the image. {UNCONFIGURED_ONLY}"
    ),
    ParameterSpec("decoder.name", "autoregressive", "Decoder of the action tokens; effective at the next step.", choices=DECODERS),
    *decoder_parameters(),
    ParameterSpec("control_period", 0.2, "Time over which one action is executed, and between two actions [s].", 0.02, 5.0),
    ParameterSpec("goal.time_limit", 120.0, "Time limit of a goal that names none [s].", 0.1, MAX_TIME_LIMIT),
    ParameterSpec("goal.step_limit", 400, "Limit of actions of a goal that names none.", 1, MAX_STEP_LIMIT),
    ParameterSpec(
        "goal.unknown_words",
        "warn",
        "What becomes of a goal with words that the policy was never trained on.",
        choices=("warn", "reject"),
    ),
    ParameterSpec(
        "goal.client_timeout",
        0.0,
        "Time for which the client may be gone before its goal is aborted [s]; 0: the goal goes on without it.",
        0.0,
        600.0,
    ),
    ParameterSpec("image.timeout", 1.0, "Age of the newest image beyond which the arm holds [s].", 0.05, 60.0),
    ParameterSpec("image.grace", 2.0, "Time of holding for an image after which the goal is aborted [s].", 0.0, 600.0),
    ParameterSpec(
        "image.frozen_motion",
        0.05,
        "Motion of a joint [rad] during which the picture must change; the arm holds when it stays the same for image.timeout. 0: "
        "not watched.",
        0.0,
        6.3,
    ),
    ParameterSpec(
        "image.min_contrast",
        2.0,
        "Standard deviation of the values of the picture's parts, 0 .. 255, below which the arm holds: dark, covered, "
        "over-exposed, of one colour. 0: not watched.",
        0.0,
        64.0,
    ),
    ParameterSpec(
        "image.compressed",
        False,
        "Subscribe to sensor_msgs/CompressedImage on image/compressed instead of sensor_msgs/Image on image.",
        read_only=True,
    ),
    ParameterSpec(
        "image.qos", "auto", "Reliability to ask of the camera's driver; auto: what it offers.", choices=QOS, read_only=True
    ),
    ParameterSpec("joint_states.timeout", 0.5, "Age of the newest joint state beyond which the arm holds [s].", 0.02, 60.0),
    ParameterSpec("joint_states.grace", 2.0, "Time of holding for a joint state after which the goal is aborted [s].", 0.0, 600.0),
    ParameterSpec(
        "arm_status.grace",
        2.0,
        "Time for which arm_node may report a fault, or be silent, before the goal is aborted [s]; longer than the slowest action.",
        0.1,
        600.0,
    ),
    ParameterSpec("base_frame", "panda_link0", "Frame of the robot's base: the actions are along its axes.", read_only=True),
)


def is_choice(name: str) -> bool:
    """Whether a parameter is one of those that choice() reads."""
    return name.startswith("decoder.") or name in LIVE


def choice(values: dict[str, Any]) -> Choice:
    """How to decide. Raises ValueError, with one sentence, for settings that do not fit together."""
    settings = Settings(**{entry.name: values[f"decoder.{entry.name}"] for entry in fields(Settings)})
    return Choice(decoder=values["decoder.name"], settings=settings, unnorm_key=values["policy.unnorm_key"])


def where(values: dict[str, Any]) -> Source | Address:
    """Where what decides is found."""
    if values["policy.remote"]:
        return Address(
            url=values["policy.remote"],
            timeout=values["policy.remote_timeout"],
            key_file=values["policy.remote_key_file"],
            image_key=values["policy.remote_image_key"],
        )
    if not values["policy.checkpoint"]:
        raise ValueError(
            "no policy is named: give the one that was trained for this arm with policy.checkpoint and policy.unnorm_key "
            "(checkpoint:=DIRECTORY unnorm_key:=KEY of the launch file), or policy.remote"
        )
    return Source(
        checkpoint=values["policy.checkpoint"],
        device=values["policy.device"],
        unnorm_key=values["policy.unnorm_key"],
        threads=values["policy.threads"],
        dtype=values["policy.dtype"],
        quantization=values["policy.quantization"],
        drafter=values["policy.drafter"],
        database=values["policy.database"],
        adapted=values["policy.adapted"],
        real_arm=values["policy.real_arm"],
        largest_step=(values["policy.largest_translation"], values["policy.largest_rotation"]),
    )


def goal_limits(goal: ExecuteInstruction.Goal, values: dict[str, Any]) -> GoalLimits:
    """The limits of a goal; 0 in it means the parameter."""
    return GoalLimits(
        time_limit=goal.time_limit or values["goal.time_limit"],
        step_limit=goal.step_limit or values["goal.step_limit"],
        control_period=values["control_period"],
        image_timeout=values["image.timeout"],
        image_grace=values["image.grace"],
        joint_states_timeout=values["joint_states.timeout"],
        joint_states_grace=values["joint_states.grace"],
        arm_grace=values["arm_status.grace"],
        image_contrast=values["image.min_contrast"],
        client_timeout=values["goal.client_timeout"],
    )
