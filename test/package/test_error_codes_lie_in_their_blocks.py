# SPDX-License-Identifier: Apache-2.0
"""Error codes are distinct and lie in the reserved blocks that ExecuteInstruction.action names."""

import re
from pathlib import Path

MSG = Path(__file__).parents[2] / "msg"


def codes(path: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^uint16 ([A-Z_]+)=(\d+)", (MSG / path).read_text(), re.M)}


RESULT = codes("action/ExecuteInstruction.action")
ARM = codes("msg/ArmStatus.msg")


def test_success_is_zero():
    assert RESULT["NONE"] == 0
    assert ARM["OK"] == 0


def test_no_value_has_two_names():
    values = [*RESULT.values(), *(value for value in ARM.values() if value > 99)]
    assert len(values) == len(set(values))


def test_vla_node_uses_1000_to_1099():
    own = {name: value for name, value in RESULT.items() if name not in {"NONE", "UNKNOWN", "ARM_FAULT"}}
    assert len(own) >= 8
    assert all(1000 <= value <= 1099 for value in own.values()), own


def test_arm_node_uses_1100_to_1199():
    faults = {name: value for name, value in ARM.items() if value > 99}
    assert len(faults) >= 3
    assert RESULT["ARM_FAULT"] == 1100
    assert all(1101 <= value <= 1199 for value in faults.values()), faults


def test_the_built_message_has_the_same_codes():
    from vla_sd_msgs.action import ExecuteInstruction

    assert {name: getattr(ExecuteInstruction.Result, name) for name in RESULT} == RESULT
