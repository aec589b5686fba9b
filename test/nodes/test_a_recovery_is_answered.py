# SPDX-License-Identifier: Apache-2.0
"""~/recover is answered once the robot has been asked, also when the node is cleaned up meanwhile; a second call at once."""

import sys
from pathlib import Path

from std_srvs.srv import Trigger


def recover(arm):
    return arm.node.recovery.ask(Trigger.Request(), Trigger.Response())


def test_when_the_node_is_cleaned_up_meanwhile(make_arm):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import standins

    standins.use()
    arm = make_arm(**{"controller.name": "crisp"}).start()
    answer = recover(arm)
    assert not answer.done() and "under way" in recover(arm).message
    arm.lifecycle("deactivate", "cleanup")
    assert "cleaned up" in answer.result().message and not answer.result().success


def test_when_there_is_nothing_that_could_be_done(arm):
    assert "knows no way to recover" in recover(arm).result().message
