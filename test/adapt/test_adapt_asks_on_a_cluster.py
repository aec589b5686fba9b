# SPDX-License-Identifier: Apache-2.0
"""`vla-sd adapt --cluster` asks the policy there; what the nodes do then: test/cluster."""

import pytest

pytest.importorskip("matplotlib", reason="needs the extra [data]")

from adapting import adapt, write_recordings  # noqa: E402

from vla_sd_ros import policy  # noqa: E402
from vla_sd_ros.inputs import BadInput  # noqa: E402
from vla_sd_ros.training import answers, asking_nodes  # noqa: E402


def test_the_nodes_are_asked_with_what_the_command_says(tmp_path, monkeypatch, capsys):
    def ask(cluster, asked, vla, episodes, folder, skip, *, every, stepped):
        assert sum(1 for _ in episodes) == 5 and folder == tmp_path / "adapted" / "work" / "answers" and every == 2
        raise BadInput(f"asked {cluster} {asked.checkpoint} {asked.device} {asked.unnorm_key} {asked.rows}")

    policy.write_random(tmp_path / "policy")
    write_recordings(tmp_path / "recordings", count=6, steps=4)
    monkeypatch.setattr(asking_nodes, "ask", ask)
    monkeypatch.setattr(answers, "ask", lambda *of, **how: pytest.fail("asked here"))
    how = ["--images", "3", "--most", "12", "--cluster", "first:6379"]
    assert adapt(tmp_path / "policy", tmp_path / "recordings", tmp_path / "adapted", *how) == 2
    assert f"asked first:6379 {tmp_path / 'policy'} cpu " in (error := capsys.readouterr().err) and error.rstrip().endswith(" 3")
