# SPDX-License-Identifier: Apache-2.0
"""GET /ready says whether goals are taken, /healthz whether the process lives, /metrics what it did, as Prometheus reads it."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import json_numpy
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import INSTRUCTION, Http, ServerProcess, images, served_here, websocket
from websockets.exceptions import InvalidStatus

from vla_sd_ros.serving.wire import pack

BODY = json_numpy.dumps({"image": images(1)[0], "instruction": INSTRUCTION})
FRAME = pack({"observation/image": images(1)[0], "prompt": INSTRUCTION})


def metrics(port: int, headers: dict | None = None) -> dict[tuple, float]:
    """Values by the sample's name and its labels, these in the order of their names."""
    status, text = Http(port, headers).ask("GET", "/metrics")
    assert status == 200
    return {
        (sample.name, *dict(sorted(sample.labels.items())).values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_while_the_model_is_loaded_the_server_lives_and_is_not_ready(checkpoint, tmp_path):
    process = ServerProcess(["--checkpoint", str(checkpoint), "--threads", "1", "--port", "0"], tmp_path / "log")
    try:
        process.wait_until_it_listens()
        client = Http(process.port)
        assert client.ask("GET", "/ready") == (503, '{"status": "loading"}')
        status, text = client.ask("GET", "/healthz")
        assert status == 200 and json.loads(text)["status"] == "loading"
        status, text = client.act(BODY)
        assert status == 503 and "the model is being loaded: ask again when GET /ready" in json.loads(text)["error"]
        with pytest.raises(InvalidStatus, match="503"):
            websocket(process.port)
        told = metrics(process.port)
        assert told["vla_sd_ready",] == 0 and told["vla_sd_errors_total", "unready"] == 2
        process.wait_until_ready()
        assert client.ask("GET", "/ready") == (200, '{"status": "ok"}') and client.act(BODY)[0] == 200
        assert metrics(process.port)["vla_sd_ready",] == 1
    finally:
        process.kill()


def test_what_was_decided_and_what_went_wrong_is_counted(server):
    before = metrics(server.port)
    client, (connection, _) = Http(server.port), websocket(server.port)
    for body, status in ((BODY, 200), (BODY, 200), ("{}", 400)):
        assert client.act(body)[0] == status
    assert client.ask("GET", "/nowhere")[0] == 404
    for frame in (FRAME, b"\xc1"):
        connection.send(frame)
        connection.recv(30.0)
    after = metrics(server.port)

    def more(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert (more("vla_sd_requests_total", "act"), more("vla_sd_requests_total", "openpi")) == (3, 2)
    assert (more("vla_sd_errors_total", "bad_request"), more("vla_sd_errors_total", "not_found")) == (2, 1)
    assert (more("vla_sd_request_seconds_count", "act"), more("vla_sd_request_seconds_count", "openpi")) == (2, 1)
    for stage in ("vision", "prefill", "total"):
        assert more("vla_sd_decision_seconds_count", "prefill_relaxed", stage) == 3
    assert (
        0
        < more("vla_sd_decision_seconds_sum", "prefill_relaxed", "vision")
        < more("vla_sd_decision_seconds_sum", "prefill_relaxed", "total")
        < 30
    )
    assert more("vla_sd_batch_size_count") == more("vla_sd_batch_size_sum") == 3
    assert more("vla_sd_clients") == 1 and after["vla_sd_queue_length",] == 0
    assert after["vla_sd_goals",] >= 2 and after["process_resident_memory_bytes",] > 1e6
    connection.close()


def test_requests_that_share_passes_are_one_batch(local):
    with served_here(local, batch=2) as port, ThreadPoolExecutor(2) as pool:
        before = metrics(port)["vla_sd_batch_size_count",]
        clients = [websocket(port)[0] for _ in range(2)]
        for client in clients:
            client.send(FRAME)
        list(pool.map(lambda client: client.recv(30.0), clients))
        after = metrics(port)
        assert after["vla_sd_batch_size_sum",] == 2 and 1 <= after["vla_sd_batch_size_count",] - before <= 2
        for client in clients:
            client.close()


def test_with_a_key_metrics_need_it_and_probes_do_not(local):
    with served_here(local, "secret") as port:
        assert Http(port).ask("GET", "/ready")[0] == 200 and Http(port).ask("GET", "/metrics")[0] == 401
        assert metrics(port, {"Authorization": "Api-Key secret"})["vla_sd_errors_total", "unauthorized"] == 1


def test_a_probe_of_http_1_0_names_no_host(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10.0) as connection:
        connection.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        assert b" 200 OK" in connection.recv(100)
