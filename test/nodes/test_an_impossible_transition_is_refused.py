# SPDX-License-Identifier: Apache-2.0
"""A transition that the node's state does not allow is refused, by the service too, and the node goes on as it was."""

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn


def test_activation_of_an_active_node(arm):
    assert arm.node.trigger_activate() == TransitionCallbackReturn.ERROR
    service = next(service for service in arm.node.services if service.srv_name.endswith("change_state"))
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert not service.callback(request, ChangeState.Response()).success
    assert arm.node.state == "active"
    arm.drive(1)
    assert arm.status.moving
