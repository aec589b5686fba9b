# SPDX-License-Identifier: Apache-2.0
"""What a policy server tells Prometheus: how long decisions take, how many are asked for at once, and what goes wrong."""

from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from vla_sd_ros.decoding.decision import Decision
from vla_sd_ros.serving.requests import BadRequest, Busy, Unready

# fmt: off
SECONDS = (  # edges of buckets
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0,
)
# fmt: on
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
KINDS: dict[type[Exception], str] = {
    BadRequest: "bad_request",
    Busy: "busy",
    Unready: "unready",
    TimeoutError: "request_timeout",
    ConnectionError: "client_gone",
}


class Metrics:
    """Counters and histograms of one server. Any thread may add to them."""

    def __init__(self):
        ours = self._registry = CollectorRegistry()
        ProcessCollector(registry=ours)
        self._requests = Counter("vla_sd_requests", "Observations that came, by protocol", ["protocol"], registry=ours)
        self._errors = Counter(
            "vla_sd_errors", "Requests that were not answered with an action or a page, by kind", ["kind"], registry=ours
        )
        self._answers = Histogram(
            "vla_sd_request_seconds",
            "From an observation to its action, the time in the queue with it",
            ["protocol"],
            buckets=SECONDS,
            registry=ours,
        )
        self._stages = Histogram(
            "vla_sd_decision_seconds",
            "Of a decision, by decoder and stage; in a batch with the waiting for others",
            ["decoder", "stage"],
            buckets=SECONDS,
            registry=ours,
        )
        self._batch = Histogram("vla_sd_batch_size", "Requests that were decided together", buckets=SIZES, registry=ours)
        self._gauges = {
            name: Gauge(f"vla_sd_{name}", told, registry=ours)
            for name, told in (
                ("ready", "Whether new goals are taken"),
                ("queue_length", "Requests that wait or are being decided"),
                ("clients", "Open websockets"),
                ("goals", "Goals that run"),
            )
        }

    def asked(self, protocol: str) -> None:
        """An observation came."""
        self._requests.labels(protocol).inc()

    def answered(self, protocol: str, seconds: float, decision: Decision) -> None:
        """Its action was decided. Stages that the decision did without are not counted."""
        self._answers.labels(protocol).observe(seconds)
        for stage, milliseconds in decision.timings_ms.items():
            if milliseconds:
                self._stages.labels(decision.decoder, stage).observe(1e-3 * milliseconds)

    def shared(self, requests: int) -> None:
        """So many requests are decided together."""
        self._batch.observe(requests)

    def failed(self, error: Exception) -> None:
        """An exception ended a request."""
        if isinstance(error, web.HTTPException):
            self.refused(error.status)
        else:
            self._errors.labels(next((kind for one, kind in KINDS.items() if isinstance(error, one)), "model")).inc()

    def refused(self, status: int) -> None:
        """A request was answered with this status of HTTP."""
        self._errors.labels(HTTPStatus(status).phrase.lower().replace(" ", "_")).inc()

    def page(self, **now: float) -> web.Response:
        """In Prometheus' text format. now: ready, queue_length, clients and goals, as they are."""
        for name, value in now.items():
            self._gauges[name].set(value)
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
