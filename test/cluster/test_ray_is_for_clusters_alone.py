# SPDX-License-Identifier: Apache-2.0
"""Without --cluster nothing of Ray is imported, and without Ray --cluster is one sentence."""

import subprocess
import sys

import pytest

from vla_sd_ros import workers
from vla_sd_ros.inputs import BadInput


def double(unit: int) -> int:
    return 2 * unit


def test_processes_of_this_machine_need_no_ray():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from test_ray_is_for_clusters_alone import double\nfrom vla_sd_ros import workers\n"
        "if __name__ == '__main__': print(sorted(workers.each(double, [3, 1, 2], processes=2, lifetime=1)))"
    )
    folder = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=100.0)
    assert done.stdout == "[2, 4, 6]\n", done.stderr


def test_a_cluster_without_ray_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"^--cluster needs Ray .*: pip install '.\[cluster\]', here and on each node$"):
        next(workers.each(double, [1], cluster="auto"))


def test_a_difference_is_named():
    here = workers.made_of(())
    assert workers.difference(here, dict(here)) == "" and here["vla_sd_ros"] != "missing"
    assert workers.difference(here, here | {"torch": "1.0"}) == f"torch is 1.0, but {here['torch']} where the command was given"


def test_a_checkpoint_is_known_by_what_is_in_its_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(3 << 20))
    (tmp_path / "answers").mkdir()
    before = workers._digest(tmp_path, workers._files(tmp_path))
    (tmp_path / "answers" / "log.csv").write_text("1")
    assert workers._digest(tmp_path, workers._files(tmp_path)) == before
    for place in (0, 3 << 19, (3 << 20) - 1):
        changed = bytearray(3 << 20)
        changed[place] = 1
        (tmp_path / "model.safetensors").write_bytes(changed)
        assert workers._digest(tmp_path, workers._files(tmp_path)) != before
    assert workers._digest(tmp_path / "none", workers._files(tmp_path / "none")) == "missing"
