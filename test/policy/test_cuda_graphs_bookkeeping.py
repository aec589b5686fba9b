# SPDX-License-Identifier: Apache-2.0
"""Without a GPU: captured passes, replayed as CUDA replays them, give what eager passes give.

A stand-in records each operation while a graph is captured, with the very tensors it was given, and a replay runs these
again on the same memory: Python is not asked again, a number that it computed at capture stays as it was, outputs of one
graph are overwritten with NaN when another one runs, and reading a value back on the host during a capture is an error.
"""

import contextlib

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vla_sd_ros import policy
from vla_sd_ros.policy import graphs
from vla_sd_ros.policy.batch import BatchedVla
from vla_sd_ros.policy.draft import Draft, below, chain
from vla_sd_ros.policy.self_test import self_test

CPU = torch.device("cpu")
recorded: list["FakeGraph"] = []


class FakeGraph:
    def __init__(self):
        self.calls, self.replays = [], 0
        recorded.append(self)

    def replay(self):
        self.replays += 1
        for other in recorded:  # they share a pool of memory
            if other is not self:
                for tensor in other.made():
                    tensor.fill_(torch.nan if tensor.is_floating_point() else 0)
        for function, arguments, options, results in self.calls:
            for old, new in zip(tree_leaves(results), tree_leaves(function(*arguments, **options))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def made(self) -> list[torch.Tensor]:
        """What is only this graph's: results that lie in no argument's memory."""
        given = {
            t.untyped_storage().data_ptr()
            for _, arguments, _, _ in self.calls
            for t in tree_leaves(arguments)
            if isinstance(t, torch.Tensor)
        }
        last = [t for *_, results in self.calls for t in tree_leaves(results) if isinstance(t, torch.Tensor)]
        return [t for t in last if t.untyped_storage().data_ptr() not in given]


class Recording(TorchDispatchMode):
    def __init__(self, graph: FakeGraph):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        results = function(*arguments, **(options or {}))
        self.graph.calls.append((function, arguments, options or {}, results))
        return results


@contextlib.contextmanager
def capture(graph, pool, stream):
    assert stream.waits, "what was warmed up must come before"
    with Recording(graph):
        yield


class Stream:
    def __init__(self, device):
        self.device, self.waits = device, 0

    def wait_stream(self, other):
        assert other is not self and other.device == self.device
        self.waits += 1


@pytest.fixture
def fake_cuda(monkeypatch):
    recorded.clear()
    for name, value in {
        "graph_pool_handle": lambda: (0, 1),
        "Stream": Stream,
        "current_stream": Stream,
        "CUDAGraph": FakeGraph,
        "graph": capture,
        "stream": lambda stream: contextlib.nullcontext(),
        "device": lambda device: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.fixture
def captured(fake_cuda):
    """A policy that behaves as on a GPU."""
    vla = policy.load("random-tiny-openvla", dtype="float32", threads=1)
    vla._captured, vla._run = True, graphs.Graphs(CPU)
    vla._cache = vla.new_cache(1)
    return vla


@pytest.fixture(scope="module")
def plain():
    return policy.load("random-tiny-openvla", dtype="float32", threads=1)


def passes(vla, seed: int, instruction: str) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    prompt = vla.observe(rng.integers(0, 256, (48, 64, 3), np.uint8), instruction)
    out = [vla.prefill(prompt, chain(rng.integers(0, 256, 6)))]
    vla.keep([0, 1])
    tree = Draft(rng.integers(0, 256, 5), np.array([-1, 0, 0, -1, 3]))
    out.append(vla.extend(below(int(rng.integers(256)), tree)))
    vla.keep([0, 4, 5])
    for _ in range(2):
        out.append(vla.extend(chain(rng.integers(0, 256, 1))))
        vla.keep([0])
    return [part for one in out for part in (one.logits, one.hidden)]


CASES = [
    (0, "pick up the milk"),
    (1, "pick up the milk"),
    (2, "put the bowl on the plate"),
    (0, "pick up the milk"),
    (3, "put both the alphabet soup and the tomato sauce in the basket"),
    (1, "pick up the milk"),
]


def test_replays_agree_with_eager_passes(captured, plain):
    replayed = [passes(captured, *case) for case in CASES]
    for case, found in zip(CASES, replayed):
        for ours, expected in zip(found, passes(plain, *case), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_pass_is_captured_once_for_all_places_in_the_cache(captured):
    passes(captured, *CASES[0])
    known = len(recorded)
    assert known == 5  # vision; projector; prefill with six drafted; a tree of six; one token, which comes at two places
    passes(captured, *CASES[1])
    assert len(recorded) == known and max(graph.replays for graph in recorded) == 4
    passes(captured, *CASES[2])
    assert len(recorded) == known + 1  # a longer prompt: its prefill alone is new


def test_the_self_test_captures_what_a_motion_may_need(captured):
    self_test(captured)
    known = len(recorded)
    captured.prefill(captured.observe(np.zeros((48, 64, 3), np.uint8), "test"))
    for count in range(1, 8):
        captured.extend(chain([7] * count))
        captured.keep([0])
    assert len(recorded) == known


def test_a_batch_agrees_too_whichever_rows_take_part(captured, plain):
    batch, lone = BatchedVla(captured, 3), BatchedVla(plain, 3)
    images = [np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8) for seed in range(3)]
    for rows in ([0, 1, 2], [2, 0], [0, 2], [2, 1], [0, 1]):
        found = []
        for one in (batch, lone):
            prompts = one.observe([images[row] for row in rows], [CASES[row + 1][1] for row in rows])
            out = one.prefill(rows, prompts, [chain([row] * 3) for row in rows])
            for row in rows:
                one.keep(row, [0])
            found.append(out + one.extend(rows, [chain([5, row]) for row in rows]))
        for ours, expected in zip(*found, strict=True):
            torch.testing.assert_close(ours.logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_a_new_batchs_graphs_are_its_own(captured, plain):
    """Their caches may lie where an older batch's was."""
    for seed in range(3):
        batch = BatchedVla(captured, 2)
        image = np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8)
        (out,) = batch.prefill([0], batch.observe([image], ["pick up the milk"]))
        expected = plain.prefill(plain.observe(image, "pick up the milk"))
        torch.testing.assert_close(out.logits, expected.logits, rtol=1e-4, atol=1e-4)
        del batch


def test_what_work_computes_on_the_host_is_seen_by_this_test(fake_cuda):
    """The stand-in would tell: a number that Python computes stays as it was at the capture, and a read is an error."""
    run, factor = graphs.Graphs(CPU), [1.0]
    one = torch.ones(2)
    assert run("scale", lambda x: (x * factor[0],), one)[0].tolist() == [1.0, 1.0]
    factor[0] = 5.0
    assert run("scale", lambda x: (x * factor[0],), one)[0].tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="capturing"):
        run("read", lambda x: (x * x.sum().item(),), one)


def test_outputs_outlive_the_next_replay(fake_cuda):
    run = graphs.Graphs(CPU)
    first = run("double", lambda x: (2 * x,), torch.tensor([1.0]))[0]
    run("triple", lambda x: (3 * x,), torch.tensor([1.0]))
    run("double", lambda x: (2 * x,), torch.tensor([4.0]))
    assert first.tolist() == [2.0]


def test_the_graphs_that_were_not_used_for_longest_go_first(fake_cuda, monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 2)
    run = graphs.Graphs(CPU)
    for key in ("a", "b", "a", "c"):
        run(key, lambda x: (x + 1,), torch.zeros(1))
    assert list(run._graphs) == ["a", "c"]
