# SPDX-License-Identifier: Apache-2.0
"""Decisions of a decoder as messages of vla_sd_msgs."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rclpy.duration import Duration
from vla_sd_msgs.msg import DecodeStep, DecodeSummary, EndEffectorCommand


def command(decision, goal_id, step: int, header, period: float) -> EndEffectorCommand:
    """One step of motion; header: stamp of the image, frame of the robot's base; period in seconds."""
    message = EndEffectorCommand(header=header, goal_id=goal_id, step=step, gripper=float(decision.action[6]))
    delta = [float(value) for value in decision.action[:6]]
    message.translation.x, message.translation.y, message.translation.z = delta[:3]
    message.rotation.x, message.rotation.y, message.rotation.z = delta[3:]
    message.period = Duration(seconds=period).to_msg()
    return message


def hold(goal_id, step: int, header) -> EndEffectorCommand:
    """Stop smoothly and stay."""
    return EndEffectorCommand(header=header, goal_id=goal_id, step=step, hold=True)


def decode_step(decision, goal_id, step: int, header, image_to_command: float) -> DecodeStep:
    """How one action was decoded; header: stamp and frame of the image; image_to_command in seconds."""
    times = {f"{stage}_ms": float(decision.timings_ms[stage]) for stage in ("vision", "prefill", "draft", "decode", "total")}
    return DecodeStep(
        header=header,
        goal_id=goal_id,
        step=step,
        decoder=decision.decoder,
        path=decision.path,
        bins=np.asarray(decision.bins, np.uint8),
        action=np.asarray(decision.action, np.float32),
        accepted_length=int(decision.accepted_length),
        forward_passes=int(decision.forward_passes),
        threshold=float(decision.threshold),
        fused_metric=float(decision.fused_metric),
        image_to_command_ms=1e3 * image_to_command,
        **times,
    )


def decode_summary(decisions: Sequence, decoder: str) -> DecodeSummary:
    """The decisions of one goal; `decoder` is the name in use at its end. Latencies are 0 where nothing was decoded."""
    summary = DecodeSummary(decoder=decoder, steps=len(decisions))
    if not decisions:
        return summary
    summary.latency_median_ms, summary.latency_p95_ms = latency([d.timings_ms["total"] for d in decisions])
    summary.forward_passes_per_action = float(np.mean([d.forward_passes for d in decisions]))
    summary.accepted_length = float(np.mean([d.accepted_length for d in decisions]))
    paths = Counter(d.path for d in decisions).most_common()
    summary.paths = [path for path, _ in paths]
    summary.path_shares = [count / len(decisions) for _, count in paths]
    return summary


def latency(milliseconds: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    median, p95 = np.percentile(milliseconds, [50, 95])
    return float(median), float(p95)
