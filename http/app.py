"""The HTTP side of the service: a client of the Flight server."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

import specflight
from specflight.client import Client

__all__ = ["build_app"]


class Endpoints(BaseModel):
    """Where the Flight servers are."""

    endpoints: list[str]


class Health(BaseModel):
    """How the service is."""

    status: str


def build_app(endpoints: tuple[str, ...]) -> FastAPI:
    """Application that answers at ``/`` and ``/spec``.

    Parameters
    ----------
    endpoints : tuple of str
        Locations of the Flight servers, as clients reach them.
    """
    app = FastAPI(title="specflight", version=specflight.__version__, description="Survey spectra over Arrow Flight")
    client = Client(endpoints[0], timeout=5.0)
    router = APIRouter()

    @router.get("/", response_class=PlainTextResponse)
    def hello() -> str:
        """Say that the service is there."""
        return f"Hello World from specflight {specflight.__version__}\n"

    @router.get("/ping", response_class=PlainTextResponse)
    async def ping() -> str:
        """Answer without asking anyone."""
        return "OK"

    @router.get("/flight")
    async def flight() -> Endpoints:
        """Say where the Flight servers are."""
        return Endpoints(endpoints=list(endpoints))

    @router.get("/healthz", responses={503: {"model": Health}})
    def healthz() -> JSONResponse:
        """Ask the Flight server how it is."""
        alive = client.isAlive()
        return JSONResponse({"status": "ok" if alive else "down"}, status_code=200 if alive else 503)

    app.include_router(router)
    app.include_router(router, prefix="/spec", include_in_schema=False)
    return app
