# SPDX-License-Identifier: Apache-2.0
"""How evenly arm_node publishes target_pose at 100 Hz while vla_node decodes and the scene is simulated on the same cores.

    python benchmarks/jitter.py                            # five minutes; the ordinary scheduler
    python benchmarks/jitter.py --realtime-priority 50     # arm_node under SCHED_FIFO; needs the right to it

Periods are those between header stamps, which arm_node sets when it sends, and those between the arrivals that the
middleware of a subscriber noted. Exit code 1 where the 99th percentile of the period's error is 2 ms or more, or two stamps
lie more than 20 ms apart.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safety_page
from geometry_msgs.msg import PoseStamped
from system import System

from vla_sd_ros.inputs import CHECKPOINT

PERIOD, GAP, ERROR = 0.01, 0.02, 0.002  # s


def row(runs: list[list[float]]) -> dict:
    """Of times [s] of one message after the other, by run."""
    periods = np.concatenate([np.diff(times) for times in runs])
    error = 1e3 * np.abs(periods - PERIOD)
    return {
        "periods": len(periods),
        "error_ms": {"median": float(np.median(error)), "p99": float(np.percentile(error, 99)), "max": float(error.max())},
        "gaps_over_20_ms": int((periods > GAP).sum()),
        "longest_period_ms": float(1e3 * periods.max()),
    }


def measure(duration: float, priority: int, checkpoint: str, robot: str) -> dict:
    """One goal after the other, from its first motion to its end, until that makes `duration` [s]."""
    with (
        tempfile.TemporaryDirectory() as folder,
        System(Path(folder), robot, checkpoint, relay=False, arm={"realtime_priority": priority}) as system,
    ):
        stamps, arrivals, running = [], [], False

        def note(message, info):
            if running:
                stamps[-1].append(message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec)
                arrivals[-1].append(1e-9 * info["received_timestamp"])

        system.ros.node.create_subscription(PoseStamped, "target_pose", note, 100)
        actions, measured, latency = 0, 0.0, None
        while measured < duration:
            system.reset()
            system.start_moving(actions=1)
            stamps.append([])
            arrivals.append([])
            running, before, began = True, len(system.commands), time.monotonic()
            while not system.client.is_complete(0.1) and measured + time.monotonic() - began < duration:
                pass
            running = False
            measured += time.monotonic() - began
            actions += sum(not c.hold for _, c in system.commands[before:])
            latency = next(
                (
                    float(v.value)
                    for _, m in reversed(system.diagnostics)
                    for s in m.status
                    for v in s.values
                    if v.key == "latency p95 [ms]"
                ),
                latency,
            )
            system.end_goal()
        return {
            "publisher": row(stamps),
            "subscriber": row(arrivals),
            "goals": len(stamps),
            "actions_per_second": actions / measured,
            "latency_p95_ms": latency,
        }


def text(report: dict) -> str:
    lines = [
        "| period of `target_pose` | periods | error, median [ms] | p99 [ms] | max [ms] | gaps over 20 ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, who in (("publisher", "stamps set by arm_node"), ("subscriber", "arrival at a subscriber's middleware")):
        error = report[name]["error_ms"]
        errors = " | ".join(f"{error[what]:.2f}" for what in ("median", "p99", "max"))
        lines.append(f"| {who} | {report[name]['periods']} | {errors} | {report[name]['gaps_over_20_ms']} |")
    scheduler = f"SCHED_FIFO {report['realtime_priority']}" if report["realtime_priority"] else "the ordinary scheduler"
    return "\n".join(
        [
            *lines,
            "",
            f"{report['goals']} goals in {report['duration_s']:.0f} s with arm_node under {scheduler}; vla_node decided "
            f"{report['actions_per_second']:.1f} actions a second, p95 {report['latency_p95_ms']} ms each.",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=300.0, help="[s]")
    parser.add_argument("--realtime-priority", type=int, default=0, help="of arm_node; 0: the ordinary scheduler")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="policy of vla_node")
    parser.add_argument("--robot", default="scene", choices=("scene", "arm"), help="arm: without physics")
    parser.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    arguments = parser.parse_args()
    report = measure(arguments.duration, arguments.realtime_priority, arguments.checkpoint, arguments.robot)
    report |= {"duration_s": arguments.duration, "realtime_priority": arguments.realtime_priority}
    print(text(report), flush=True)
    if not arguments.dry_run:
        command = "python benchmarks/jitter.py" + (
            f" --realtime-priority {arguments.realtime_priority}" if arguments.realtime_priority else ""
        )
        safety_page.publish("jitter", text(report), {"command": command, **report})
    publisher = report["publisher"]
    return int(publisher["error_ms"]["p99"] >= 1e3 * ERROR or publisher["gaps_over_20_ms"] > 0)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # rclpy's threads of closed contexts are not waited for
