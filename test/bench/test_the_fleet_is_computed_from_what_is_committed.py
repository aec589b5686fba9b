# SPDX-License-Identifier: Apache-2.0
"""docs/scale.md is what `python benchmarks/scale.py` computes, and its arithmetic is that of the projection and of a queue."""

from pathlib import Path

import pytest

from vla_sd_ros.bench.price import PROFILES, Played
from vla_sd_ros.bench.project import DEVICES, Sizes, project
from vla_sd_ros.policy.random_openvla import RANDOM

ROOT = Path(__file__).parents[2]
PLAIN = Played(*PROFILES["autoregressive"])


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scale

    return scale


@pytest.fixture(scope="module")
def sizes():
    return Sizes.of(RANDOM["random-7b"])


def test_the_page_is_what_the_script_prints(scale):
    page = (ROOT / "docs" / "scale.md").read_text()
    assert "\n".join(scale.tables()) == page.split(scale.BEGIN + "\n")[1].split(scale.END)[0]


def test_one_at_a_time_costs_what_the_projection_says(scale, sizes):
    projected = project({}, DEVICES["h100"], sizes)["autoregressive"]["latency_ms"]["mean"]
    assert scale.Gpu(DEVICES["h100"], sizes, 1.5, 1).round([PLAIN]) == pytest.approx(projected + 1.5)


def test_a_batch_shares_what_is_read_and_not_what_is_multiplied(scale, sizes):
    gpu = scale.Gpu(DEVICES["h100"], sizes, 0.0, 8)
    one, eight = gpu.round([PLAIN]), gpu.round([PLAIN] * 8)
    later = 6 * gpu.costs.extend(1)
    assert gpu.costs.extend(8) == gpu.costs.extend(1)  # bound by reading
    assert eight == pytest.approx(later + gpu.looks[8] + 8 * gpu.costs.prefill(0)) and one < eight < 3 * one


def test_the_queue_answers_everybody_and_grows_where_it_must(scale, sizes):
    gpu = scale.Gpu(DEVICES["h100"], sizes, 0.0, 4)
    alone = scale.answers(gpu, [PLAIN], 1, 1)
    assert len(alone) == scale.SECONDS * scale.RATE and alone == pytest.approx(gpu.round([PLAIN]))
    in_batches, one_by_one = scale.answers(gpu, [PLAIN], 8, 4), scale.answers(gpu, [PLAIN], 8, 1)
    assert len(in_batches) == len(one_by_one) == 8 * len(alone)
    assert in_batches.max() < 200.0 < one_by_one.max()  # 40 actions a second, of 37 ms each
