# SPDX-License-Identifier: Apache-2.0
"""The parameters of arm_node, and what they mean for its controller."""

from dataclasses import fields
from typing import Any

import numpy as np

from vla_sd_ros import arms
from vla_sd_ros.control.controller import Config
from vla_sd_ros.control.following import FollowLimits
from vla_sd_ros.control.reach import JointLimits
from vla_sd_ros.control.tracker import Limits
from vla_sd_ros.nodes.parameters import ParameterSpec

# What concerns the robot's side, in arms/.
ROBOT = (
    ParameterSpec("arm.interface", "pose_target", "How targets go to the robot.", choices=arms.ARMS, read_only=True),
    ParameterSpec(
        "arm.tip_link",
        "",
        "pose_target, servo_twist, servo_pose: link that the arm's controller moves. Empty: tip_link; with servo_... it must be "
        "said.",
        read_only=True,
    ),
    ParameterSpec(
        "controller.name", "", "Controller of ros2_control that takes the targets; empty: it is not watched.", read_only=True
    ),
    ParameterSpec("controller.manager", "/controller_manager", "Node that loads and activates it.", read_only=True),
    ParameterSpec("controller.hardware", "", "Hardware component that ~/recover activates; empty: none.", read_only=True),
    ParameterSpec(
        "controller.recovery_action",
        "",
        "Action (franka_msgs/ErrorRecovery) that ~/recover calls first; empty: none.",
        read_only=True,
    ),
    ParameterSpec("servo.node", "servo_node", "servo_twist, servo_pose: name of MoveIt Servo's node.", read_only=True),
    ParameterSpec("servo.gain", 5.0, "servo_twist: share of the distance from the target that is made up for [1/s].", 0.0, 20.0),
    ParameterSpec(
        "joint_trajectory.time_from_start", 0.05, "joint_trajectory: time to the point of a message [s].", 0.02, 1.0, read_only=True
    ),
    ParameterSpec("interbotix.group", "arm", "interbotix_joint_group: name of the group of motors.", read_only=True),
    ParameterSpec("interbotix.rate", 20.0, "interbotix_joint_group: rate of its messages [Hz].", 5.0, 100.0, read_only=True),
    ParameterSpec("gripper.interface", "topic", "How the gripper is commanded.", choices=arms.GRIPPERS, read_only=True),
    ParameterSpec(
        "gripper.action",
        "franka_gripper/gripper_action",
        "Name of the gripper's action; of interface franka: what comes before /move, /grasp and /homing.",
        read_only=True,
    ),
    ParameterSpec("gripper.joint", "gripper", "Joint of the gripper, where the interface names it.", read_only=True),
    ParameterSpec(
        "gripper.finger",
        "",
        "interbotix_joint_single: joint of the fingers, at whose limits the effort is taken back; empty: commands are positions.",
        read_only=True,
    ),
    ParameterSpec("gripper.open_position", 1.0, "What opens the gripper, in the units of its driver.", -1000.0, 1000.0),
    ParameterSpec("gripper.closed_position", 0.0, "What closes the gripper, in the units of its driver.", -1000.0, 1000.0),
    ParameterSpec("gripper.effort", 20.0, "Force of a closing gripper [N]; 0: the driver's own.", 0.0, 200.0),
    ParameterSpec("gripper.speed", 0.1, "Interface franka: speed of the fingers [m/s].", 0.01, 0.2),
    ParameterSpec("gripper.timeout", 10.0, "Time for an action of the gripper to return [s].", 0.5, 120.0),
)

TABLE = (
    *ROBOT,
    ParameterSpec("base_frame", "panda_link0", "Base frame of the robot; commands in another are refused.", read_only=True),
    ParameterSpec("tip_link", "panda_tcp", "Link of the robot description that the commands move.", read_only=True),
    ParameterSpec("joint_names", [f"panda_joint{i}" for i in range(1, 8)], "The arm's joints, base to tip.", read_only=True),
    ParameterSpec("rate", 100.0, "Rate of target_pose [Hz].", 50.0, 200.0, read_only=True),
    ParameterSpec(
        "realtime_priority", 0, "Priority of this process under SCHED_FIFO; 0: the ordinary scheduler.", 0, 99, read_only=True
    ),
    ParameterSpec("command_timeout", 0.5, "Silence of vla_node after which the arm holds [s].", 0.1, 5.0),
    ParameterSpec("command_max_age", 5.0, "Age of the image, by its stamp, from which a command is refused [s].", 0.1, 60.0),
    ParameterSpec("joint_state_timeout", 0.2, "Age of joint states from which the arm holds [s].", 0.02, 2.0),
    ParameterSpec("step.max_translation", 0.05, "Longest translation of one command [m].", 0.001, 0.2),
    ParameterSpec("step.max_rotation", 0.25, "Largest rotation of one command [rad].", 0.005, 1.0),
    ParameterSpec("action_scale", 1.0, "Share of each commanded translation and rotation that is executed.", 0.01, 1.0),
    ParameterSpec("blend_in", 0.3, "Time in which the speed limit rises from a tenth when a goal begins [s].", 0.0, 5.0),
    ParameterSpec(
        "follow.max_distance", 0.12, "Distance of the measured from the commanded position at which the arm holds [m].", 0.005, 1.0
    ),
    ParameterSpec("follow.max_angle", 0.8, "The same for the rotation [rad].", 0.05, 3.1),
    ParameterSpec(
        "follow.still_distance", 0.04, "Distance from the commanded position at which the arm must move [m].", 0.002, 1.0
    ),
    ParameterSpec("follow.still_angle", 0.3, "The same for the rotation [rad].", 0.02, 3.1),
    ParameterSpec("follow.timeout", 1.0, "Time for which the arm may stand still so far away [s].", 0.1, 10.0),
    ParameterSpec("follow.lead_distance", 0.045, "Farthest that a target goes ahead of the arm [m].", 0.005, 1.0),
    ParameterSpec("follow.lead_angle", 0.5, "The same for the rotation [rad].", 0.05, 3.1),
    ParameterSpec("follow.away_distance", 0.03, "Distance that the arm may move off the way on which it is sent [m].", 0.002, 1.0),
    ParameterSpec("follow.away_angle", 0.25, "The same for the rotation [rad].", 0.02, 3.1),
    ParameterSpec(
        "follow.first_distance",
        0.008,
        "The same as a goal begins, until its target has moved: what moves then shows a controller of another frame [m].",
        0.001,
        1.0,
    ),
    ParameterSpec("follow.first_angle", 0.06, "The same for the rotation [rad].", 0.01, 3.1),
    ParameterSpec("enable.required", False, "Move only while the topic enable (std_msgs/Bool) says true."),
    ParameterSpec("enable.timeout", 0.5, "Silence of enable after which the arm holds [s].", 0.05, 5.0),
    ParameterSpec("workspace.min", [0.1, -0.5, -0.05], "Lowest x, y, z of the target, base frame [m].", -5.0, 5.0),
    ParameterSpec("workspace.max", [0.8, 0.5, 0.9], "Highest x, y, z of the target, base frame [m].", -5.0, 5.0),
    ParameterSpec("limits.linear_velocity", 0.6, "Greatest speed [m/s].", 0.01, 2.0),
    ParameterSpec("limits.linear_acceleration", 5.0, "Greatest acceleration [m/s^2].", 0.1, 20.0),
    ParameterSpec("limits.linear_jerk", 300.0, "Greatest jerk [m/s^3].", 5.0, 5000.0),
    ParameterSpec("limits.angular_velocity", 2.5, "Greatest angular speed [rad/s].", 0.05, 4.0),
    ParameterSpec("limits.angular_acceleration", 20.0, "Greatest angular acceleration [rad/s^2].", 0.5, 50.0),
    ParameterSpec("limits.angular_jerk", 1200.0, "Greatest angular jerk [rad/s^3].", 20.0, 10000.0),
    ParameterSpec("joints.position_margin", 0.05, "Distance that the joints keep from their limits [rad].", 0.0, 1.0),
    ParameterSpec("joints.slow_zone", 0.15, "Distance from that margin at which a joint begins to slow down [rad].", 0.001, 2.0),
    ParameterSpec("joints.velocity_share", 0.9, "Share of the joints' speed limits that is used.", 0.01, 1.0),
    ParameterSpec(
        "singularity.slow_below",
        0.06,
        "Smallest singular value of the Jacobian from which the arm slows down on its way to a singular posture.",
        0.0,
        1.0,
    ),
    ParameterSpec("singularity.hold_below", 0.02, "The same at which it holds.", 0.0, 1.0),
    ParameterSpec("gripper.open_above", 0.55, "Commanded opening from which the gripper opens.", 0.0, 1.0),
    ParameterSpec("gripper.close_below", 0.45, "Commanded opening up to which the gripper closes.", 0.0, 1.0),
    ParameterSpec("dry_run", False, "Compute everything, send nothing to arm and gripper."),
)


def check(values: dict[str, Any]) -> None:
    """Raises ValueError, with one sentence, for values that do not go together."""
    for axis, low, high in zip("xyz", values["workspace.min"], values["workspace.max"]):
        if low >= high:
            raise ValueError(f"workspace.min is {low} and workspace.max is {high} in {axis}: min must be below max")
    if len(set(values["joint_names"])) < len(values["joint_names"]):
        raise ValueError(f"joint_names has a name twice: {', '.join(values['joint_names'])}")
    if values["singularity.hold_below"] > values["singularity.slow_below"]:
        raise ValueError(
            f"singularity.hold_below ({values['singularity.hold_below']}) must not be above singularity.slow_below "
            f"({values['singularity.slow_below']})"
        )
    if values["gripper.close_below"] >= values["gripper.open_above"]:
        raise ValueError(
            f"gripper.close_below ({values['gripper.close_below']}) must be below gripper.open_above "
            f"({values['gripper.open_above']})"
        )


def config(values: dict[str, Any]) -> Config:
    """The limits in force."""
    v = values
    return Config(
        base_frame=v["base_frame"],
        command_timeout=v["command_timeout"],
        joint_state_timeout=v["joint_state_timeout"],
        command_max_age=v["command_max_age"],
        max_translation=v["step.max_translation"],
        max_rotation=v["step.max_rotation"],
        workspace_low=np.array(v["workspace.min"]),
        workspace_high=np.array(v["workspace.max"]),
        limits=Limits(**_named(values, "limits", Limits)),
        follow=FollowLimits(**_named(values, "follow", FollowLimits)),
        joints=JointLimits(
            position_margin=v["joints.position_margin"],
            slow_zone=v["joints.slow_zone"],
            velocity_share=v["joints.velocity_share"],
            singularity_slow_below=v["singularity.slow_below"],
            singularity_hold_below=v["singularity.hold_below"],
        ),
        open_above=v["gripper.open_above"],
        close_below=v["gripper.close_below"],
        action_scale=v["action_scale"],
        blend_in=v["blend_in"],
        enable_required=v["enable.required"],
        enable_timeout=v["enable.timeout"],
        dry_run=v["dry_run"],
    )


def _named(values: dict[str, Any], group: str, kind: type) -> dict[str, Any]:
    """The parameters of a group, each named as a field of a dataclass."""
    return {entry.name: values[f"{group}.{entry.name}"] for entry in fields(kind)}
