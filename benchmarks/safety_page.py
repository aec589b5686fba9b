# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of docs/safety.md and docs/arms.md share: the tests' processes and faults, importable, and
their parts of the page.
"""

import sys
from pathlib import Path

from vla_sd_ros.bench import results

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "safety.md"
sys.path[:0] = [str(ROOT / "test" / "ros"), str(ROOT / "test"), str(ROOT / "test" / "arms")]


def publish(name: str, text: str, report: dict, page: Path = PAGE) -> None:
    """Writes benchmarks/results/NAME.json, and the text between the marks of benchmarks/NAME.py in a page."""
    begin, end = f"<!-- made by benchmarks/{name}.py -->", "<!-- end -->"
    report = {"command": report.pop("command"), "commit": results.commit(), "device": results.device_name(), **report}
    results.write(ROOT / "benchmarks" / "results" / f"{name}.json", report)
    before, rest = page.read_text().split(begin)
    about = f"`{report['command']}` at {report['commit']} on {report['device']}"
    page.write_text(f"{before}{begin}\n{text}\n\n{about}\n{end}{rest.split(end, 1)[1]}")
