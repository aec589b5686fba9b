# SPDX-License-Identifier: Apache-2.0
"""What is given to a command reaches its nodes as it is, whatever YAML would make of it."""

import signal
import sys

import rclpy
from processes import NodeProcess
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.parameter import parameter_value_to_python
from rclpy.signals import SignalHandlerOptions

from vla_sd_ros.demo import yaml

ODD = ["a: b #c [1]", "~", "1.0", "yes", "{x}", "'\"\\", "\u2603 \U0001f600", "- x", "a\tb"]


def test_a_folder_of_any_name_is_recorded_into(domain, ros, tmp_path):
    folder = tmp_path / ODD[0]
    command = [sys.executable, "-m", "vla_sd_ros.cli", "record", "--output-dir", str(folder), "--patience", "1"]
    recorder = NodeProcess(command, domain, tmp_path / "log")
    recorder.wait_for_line(f"recording goals below {folder}")
    answer = ros.call(GetParameters, "goal_recorder/get_parameters", GetParameters.Request(names=["folder", "patience"]))
    assert [parameter_value_to_python(value) for value in answer.values] == [str(folder), 1.0]
    assert recorder.end(signal.SIGINT)[0] == 0


def test_a_text_is_a_text(domain):
    given = [part for index, text in enumerate(ODD) for part in ("-p", f"x{index}:={yaml(text)}")]
    context = Context()
    rclpy.init(args=["--ros-args", *given], context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("reader", context=context, automatically_declare_parameters_from_overrides=True)
    assert [node.get_parameter(f"x{index}").value for index in range(len(ODD))] == ODD
    node.destroy_node()
    context.try_shutdown()
