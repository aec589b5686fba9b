# SPDX-License-Identifier: Apache-2.0
"""The operator's page: robot.py speaks ROS, web.py speaks HTTP, page/ is what the browser shows; between them plain data.

robot.py is made of goals.py (what runs), tables.py (live parameters) and camera.py (pictures).
"""


class Refused(Exception):
    """What an operator asked for was not done; the message is one sentence that says why."""
