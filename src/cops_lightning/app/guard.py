"""What keeps the page to itself and its user: headers, refusals, and every error as a sentence."""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cops_lightning.core.errors import CopsError

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LONGEST_PATH = 500  # letters: more than any route has
_log = logging.getLogger(__name__)


class Guarded:
    """Adds headers that keep the page to itself, and refuses changes that another site's page asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI means it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        if len(scope["path"]) > LONGEST_PATH:  # whose numbers may be longer than Python converts
            return await JSONResponse({"error": "There is no page of such a long name."}, 404)(scope, receive, send)
        origin = request.headers.get("origin")
        if request.method != "GET" and origin not in (None, f"http://{request.headers.get('host')}"):
            response = JSONResponse({"error": "Another site's page may not change anything here."}, 403)
            return await response(scope, receive, send)

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        return await self.app(scope, receive, guarded)


def said(_request: Request, error: CopsError) -> Response:
    """The sentence of an error that stems from input."""
    # Not a status of errors: a file that is no image is an ordinary outcome, which a browser's console need not report.
    return JSONResponse({"error": str(error)})


def refused(_request: Request, error: HTTPException) -> Response:
    """What is not there, or not allowed."""
    return JSONResponse({"error": error.detail}, error.status_code)


def broken(_request: Request, error: Exception) -> Response:
    """A defect: the console has the traceback, the page does not."""
    _log.error("A request failed.", exc_info=error)
    return JSONResponse({"error": "The server failed at this; its console says why."}, 500)
