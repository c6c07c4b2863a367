"""What the HTTP side counts, for Prometheus."""

from __future__ import annotations

import os
import time

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Metrics", "MetricsMiddleware"]

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """Counters of one process; where several count together, all of them are told."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.requests = Counter(
            "specflight_http_requests", "Requests answered.", ("path", "method", "status"), registry=registry
        )
        self.seconds = Histogram(
            "specflight_http_request_duration_seconds",
            "Time until an answer was complete.",
            ("path",),
            buckets=SECONDS,
            registry=registry,
        )
        self.sent = Counter("specflight_http_response_bytes", "Bytes of answers.", ("path",), registry=registry)
        self.running = Gauge(
            "specflight_http_requests_running",
            "Requests being answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._registry = registry

    def response(self) -> Response:
        """All counters in the text format of Prometheus."""
        registry = self._registry
        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class MetricsMiddleware:
    """Counts every request of an application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or whatever else ASGI brings."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, sent, started = 500, 0, time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        metrics = self._metrics
        metrics.running.inc()
        try:
            await self._app(scope, receive, counted)
        finally:
            metrics.running.dec()
            # The path as it is declared, so that strangers cannot make up new ones.
            path = getattr(scope.get("route"), "path", "unknown")
            metrics.requests.labels(path, scope["method"], status).inc()
            metrics.seconds.labels(path).observe(time.perf_counter() - started)
            metrics.sent.labels(path).inc(sent)
