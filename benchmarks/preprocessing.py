# SPDX-License-Identifier: Apache-2.0
"""What it costs to prepare a camera's image, 640x480, for OpenVLA: wall-clock time, and time of all processors together.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/preprocessing.py --json benchmarks/results/preprocessing.json

The image is the shipped one, so that a JPEG of it is as long as a camera's. The halves of a JPEG are coded by two threads.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from vla_sd_ros.bench import results
from vla_sd_ros.doctor import EXAMPLE
from vla_sd_ros.policy.preprocessing import ImageSettings, jpeg_round_trip, prepare

SIZE = (640, 480)  # width, height
CASES = {
    "resize": ImageSettings(jpeg=False),
    "resize, crop, mirror": ImageSettings(jpeg=False, centre_crop=True, mirror=True),
    "JPEG, resize (bridge_orig)": ImageSettings(),
    "JPEG, resize, crop, mirror (libero)": ImageSettings(True, True, True),
}


def milliseconds(work, repeats: int) -> dict[str, float]:
    wall, processor = [], []
    for _ in range(repeats + 5):  # the first ones make the matrices
        began, used = time.perf_counter(), time.process_time()
        work()
        wall.append(1e3 * (time.perf_counter() - began))
        processor.append(1e3 * (time.process_time() - used))
    return {
        "median_ms": float(np.median(wall[5:])),
        "p95_ms": float(np.percentile(wall[5:], 95)),
        "processor_ms": float(np.median(processor[5:])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    image = cv2.resize(cv2.cvtColor(cv2.imread(str(EXAMPLE)), cv2.COLOR_BGR2RGB), SIZE)
    rows = {name: milliseconds(lambda: prepare(image, 224, case), arguments.repeats) for name, case in CASES.items()}
    rows["the JPEG round trip alone"] = milliseconds(lambda: jpeg_round_trip(image), arguments.repeats)
    for name, row in rows.items():
        print(f"{name}: {row['median_ms']:.2f} ms median, {row['p95_ms']:.2f} p95; {row['processor_ms']:.2f} ms of processor")
    if arguments.json:
        command = f"python benchmarks/preprocessing.py --json {arguments.json}"
        results.write(
            arguments.json,
            {
                "device": results.device_name(),
                "commit": results.commit(),
                "command": command,
                "repeats": arguments.repeats,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
