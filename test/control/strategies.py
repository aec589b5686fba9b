# SPDX-License-Identifier: Apache-2.0
"""What hypothesis draws in the tests of control/."""

import numpy as np
from hypothesis import strategies as st
from pinocchio import exp3

from vla_sd_ros.kinematics.pose import Pose


def vectors(bound: float):
    """Arrays (3,) with entries in -bound .. bound."""
    return st.lists(st.floats(-bound, bound), min_size=3, max_size=3).map(np.array)


poses = st.builds(lambda p, r: Pose(p, exp3(r)), vectors(1.0), vectors(1.7))
