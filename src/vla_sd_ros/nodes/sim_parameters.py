# SPDX-License-Identifier: Apache-2.0
"""The parameters of sim_node, read without the simulator."""

from vla_sd_ros.nodes.parameters import ParameterSpec
from vla_sd_ros.sim.suites import INITIAL_STATES, SUITES, TASKS_PER_SUITE

TABLE = (
    ParameterSpec("suite", "libero_object", "LIBERO suite of the scene; later: service ~/reset.", choices=SUITES, read_only=True),
    ParameterSpec("task", 0, "Index of the task in the suite; later: service ~/reset.", 0, TASKS_PER_SUITE - 1, read_only=True),
    ParameterSpec(
        "initial_state", 0, "Index of the published initial state; later: service ~/reset.", 0, INITIAL_STATES - 1, read_only=True
    ),
    ParameterSpec(
        "seed", 0, "Seed that shifts the objects by up to 2 cm; 0: exactly the published state.", 0, 2**31 - 1, read_only=True
    ),
    ParameterSpec("camera_rate", 5.0, "Rate of image and camera_info [Hz]; the control rate is enough.", 0.5, 30.0, read_only=True),
    ParameterSpec(
        "joint_state_rate",
        100.0,
        "Rate of joint_states, and of taking up targets [Hz]; rounded so that its period is a multiple of 2 ms.",
        50.0,
        500.0,
        read_only=True,
    ),
    ParameterSpec("image_size", 160, "Width and height of the image [pixels].", 64, 1024, read_only=True),
)
