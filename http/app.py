"""The HTTP side of the service: a client of the Flight server."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

import specflight
from specflight.errors import SpecflightError
from specflight.http import images, listings, operation, query, spectra, storage, transfer
from specflight.http.endpoints import Endpoint, add_endpoints
from specflight.http.metrics import Metrics, MetricsMiddleware
from specflight.http.parameters import MissingParameter
from specflight.http.state import State

__all__ = ["build_app"]

log = logging.getLogger(__name__)

HELLO = f"Hello World from specflight {specflight.__version__}\n"

# Routes are tried in their order, 3 microseconds each: first what is asked for most.
ENDPOINTS: tuple[Endpoint[Any], ...] = (
    *spectra.ENDPOINTS,
    *images.ENDPOINTS,
    *query.ENDPOINTS,
    *listings.ENDPOINTS,
    *storage.ENDPOINTS,
    *operation.ENDPOINTS,
)


class Flight(BaseModel):
    """Where the Flight servers are."""

    endpoints: list[str]


class Health(BaseModel):
    """How the service is."""

    status: str


def build_app(state: State) -> FastAPI:
    """Application that answers at ``/`` and ``/spec``.

    Parameters
    ----------
    state : State
        What lives as long as the process.
    """
    metrics = Metrics()
    app = FastAPI(
        title="specflight",
        version=specflight.__version__,
        description="Survey spectra: the documented interface of the Spectroscopic Data Service, and more.",
        middleware=[Middleware(_BothPlaces), Middleware(MetricsMiddleware, metrics=metrics)],
        exception_handlers={
            SpecflightError: _refused,
            HTTPException: _not_served,
            Exception: _failed,
        },
        redirect_slashes=False,
    )
    app.state.specflight = state
    router = APIRouter()
    _add_own(router, state, metrics)
    add_endpoints(router, ENDPOINTS)
    router.include_router(transfer.router)
    app.include_router(router)
    return app


class _BothPlaces:
    """Serves ``/spec/...`` as ``/...``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path == "/spec" or path.startswith("/spec/"):
                scope["path"] = path.removeprefix("/spec") or "/"
        await self._app(scope, receive, send)


def _add_own(router: APIRouter, state: State, metrics: Metrics) -> None:
    """Endpoints without parameters."""

    @router.get("/", response_class=PlainTextResponse, summary="Say that the service is there")
    async def hello() -> str:
        return HELLO

    @router.get("/ping", response_class=PlainTextResponse, summary="Answer without asking anyone")
    async def ping() -> str:
        return "OK"

    @router.get("/flight", summary="Say where the Flight servers are")
    async def flight() -> Flight:
        return Flight(endpoints=list(state.endpoints))

    @router.get(
        "/healthz", response_model=Health, responses={503: {"model": Health}}, summary="Ask a Flight server how it is"
    )
    async def healthz() -> JSONResponse:
        alive = await run_in_threadpool(state.alive)
        return JSONResponse({"status": "ok" if alive else "down"}, status_code=200 if alive else 503)

    @router.get("/metrics", response_class=PlainTextResponse, summary="Tell what was counted, for Prometheus")
    async def told() -> Response:
        return metrics.response()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecflightError)
    # Callers of the service before this one know these words.
    text = f"Param Error: '{error}'" if isinstance(error, MissingParameter) else f"Error: {error}"
    return PlainTextResponse(text, error.http_status)


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = {404: f"there is no {request.url.path}", 405: f"{request.method} is not served at {request.url.path}"}
    text = what.get(error.status_code, error.detail)
    return PlainTextResponse(f"Error: {text}", error.status_code, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("internal error\n%s", "".join(traceback.format_exception(error, limit=50)))
    return PlainTextResponse(f"Error: internal error ({type(error).__name__}), see the log", 500)
