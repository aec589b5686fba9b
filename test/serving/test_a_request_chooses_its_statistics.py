# SPDX-License-Identifier: Apache-2.0
"""Where a checkpoint has several action statistics, each POST /act may name its own with unnorm_key."""

import json
import shutil
from types import SimpleNamespace

import json_numpy
import numpy as np
import pytest
from served import INSTRUCTION, Http, images, served_here

from vla_sd_ros import policy
from vla_sd_ros.assembly import Choice, Source
from vla_sd_ros.assembly.local import load


@pytest.fixture(scope="module")
def local(checkpoint, tmp_path_factory):
    """A model with two statistics, `far` with limits twice as wide as `near`, loaded with `near`."""
    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("two") / "two")
    path = folder / "dataset_statistics.json"
    (entry,) = json.loads(path.read_text()).values()
    far = {"action": entry["action"] | {name: [2 * x for x in entry["action"][name]] for name in ("q01", "q99")}}
    path.write_text(json.dumps({"near": entry, "far": far}))
    model = load(Source(folder, unnorm_key="near", threads=1))
    return SimpleNamespace(vla=model.vla, model=model, choice=Choice())


@pytest.fixture(params=[1, 2], ids=["one by one", "in batches"])
def client(local, request):
    with served_here(local, batch=request.param) as port:
        client = Http(port)
        yield client
        client.close()


def ask(client, key) -> tuple[int, object]:
    body = {"image": images(1)[0], "instruction": INSTRUCTION} | ({} if key is None else {"unnorm_key": key})
    status, text = client.act(json_numpy.dumps(body))
    return status, json_numpy.loads(text)


def test_each_request_gets_the_units_it_asks_for(client):
    answers = {key: ask(client, key) for key in (None, "near", "far")}
    again = ask(client, None)
    assert {status for status, _ in answers.values()} == {200}
    np.testing.assert_array_equal(answers[None][1], answers["near"][1])
    np.testing.assert_allclose(answers["far"][1][:6], 2 * answers["near"][1][:6], rtol=1e-12)
    np.testing.assert_array_equal(again[1], answers["near"][1])  # the server's own, not those of the last request


def test_an_unknown_key_is_a_400_with_the_known_ones(client):
    status, answer = ask(client, "bridge_orig")
    assert status == 400 and "far, near" in answer["error"] and "'bridge_orig'" in answer["error"]
    status, text = client.ask("GET", "/healthz")
    assert json.loads(text)["unnorm_keys"] == ["far", "near"]


def test_a_key_whose_images_are_prepared_in_another_way_is_refused(local, monkeypatch):
    monkeypatch.setattr(local.vla, "images", policy.ImageSettings())
    monkeypatch.setitem(local.vla._table, "libero_goal", local.vla.statistics)
    with pytest.raises(ValueError, match="images of 'libero_goal' are prepared in another way"):
        local.vla.key_of("libero_goal")
