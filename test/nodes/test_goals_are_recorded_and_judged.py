# SPDX-License-Identifier: Apache-2.0
"""goal_recorder over DDS: a goal's bag, the service ~/mark, the verdict that ends the goal, and the report."""

import json
import sys
import time

import pytest

pytest.importorskip("matplotlib", reason="the report needs the extra [sim]")


@pytest.fixture
def bench(tmp_path):
    """A goal_recorder, and a node in the place of vla_node and camera; both spin in this process."""
    import rclpy
    from processes import Domain
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import Image
    from std_srvs.srv import SetBool
    from vla_sd_msgs.msg import DecodeStep, RunningGoal, TaskSuccess

    from vla_sd_ros.messages.qos import LATCHED
    from vla_sd_ros.nodes.goal_recorder import GoalRecorder

    domain, context = Domain(), Context()
    rclpy.init(context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)

    class Bench:
        folder = tmp_path / "runs"
        recorder = GoalRecorder(
            context=context,
            namespace="/vla",
            parameter_overrides=[Parameter("folder", value=str(tmp_path / "runs")), Parameter("patience", value=20.0)],
        )
        other = rclpy.create_node("other", context=context, namespace="/vla")
        goals = other.create_publisher(RunningGoal, "goal", LATCHED)
        images, steps = other.create_publisher(Image, "image", 10), other.create_publisher(DecodeStep, "decode", 10)
        marks = other.create_client(SetBool, "goal_recorder/mark")
        verdicts: list = []

        def spin(self, condition, timeout=10.0):
            deadline = time.monotonic() + timeout
            while not condition() and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.05)
            assert condition()

        def goal(self, sentence, number):
            message = RunningGoal(instruction=sentence)
            message.goal_id.uuid[:] = [number] * 16
            self.goals.publish(message)

        def step(self, number, step):
            image, decode = Image(height=8, width=8, encoding="rgb8", step=24, data=bytes([step] * 192)), DecodeStep(step=step)
            image.header.stamp = decode.header.stamp = self.other.get_clock().now().to_msg()
            decode.goal_id.uuid[:] = [number] * 16
            self.images.publish(image)
            self.steps.publish(decode)
            end = time.monotonic() + 0.06
            self.spin(lambda: time.monotonic() > end)

        def mark(self, success):
            answer = self.marks.call_async(SetBool.Request(data=success))
            self.spin(answer.done)
            return answer.result()

    executor = SingleThreadedExecutor(context=context)
    made = Bench()
    made.other.create_subscription(TaskSuccess, "task_success", made.verdicts.append, LATCHED)
    executor.add_node(made.recorder)
    executor.add_node(made.other)
    made.spin(
        lambda: made.marks.service_is_ready() and made.images.get_subscription_count() and made.steps.get_subscription_count()
    )
    yield made
    made.recorder.stop()
    executor.shutdown()
    context.try_shutdown()
    domain.release()


def test_a_goal_is_recorded_judged_and_reported(bench):
    from vla_sd_msgs.msg import TaskSuccess

    from vla_sd_ros.recordings import Options, Recordings

    assert not bench.mark(True).success
    bench.goal("open the drawer", 1)
    bench.spin(lambda: bench.recorder._bags.run)
    for step in range(5):
        bench.step(1, step)
    answer = bench.mark(True)  # while it runs: vla_node ends the goal
    assert answer.success and "'open the drawer': success" in answer.message
    bench.spin(lambda: bench.verdicts)
    assert bench.verdicts[0].state == TaskSuccess.SUCCESS and bench.verdicts[0].instruction == "open the drawer"
    bench.goal("", 0)
    (folder,) = bench.folder.iterdir()
    bench.spin(lambda: (folder / "episode" / "metadata.yaml").exists())
    (episode,) = Recordings([bench.folder], Options())
    assert (episode.instruction, len(episode.actions), episode.success) == ("open the drawer", 5, True)
    assert sum(image is not None for image in episode.images) == 5
    bench.spin(lambda: (folder / "report.png").exists() and "decoding" in json.loads((folder / "summary.json").read_text()), 40.0)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["success"] is True and summary["steps"] == 5 and (folder / "video.mp4").exists()


def test_the_keys_judge_too(bench, monkeypatch):
    import os
    import pty

    from vla_sd_ros.nodes.goal_recorder import Terminal

    keyboard, terminal = pty.openpty()
    with os.fdopen(terminal, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        keys = Terminal(bench.recorder._keys)
        bench.goal("open the drawer", 1)
        bench.spin(lambda: bench.recorder._bags.run)
        os.write(keyboard, b"xf")
        bench.spin(lambda: bench.recorder._bags.run.success is False)
        keys.close()
    os.close(keyboard)
