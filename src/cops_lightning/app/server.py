"""Routes of the page: what may come in, what goes out, and every error as a sentence."""

import base64
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from cops_lightning.app.demonstration import Example
from cops_lightning.app.download import results_csv, results_zip
from cops_lightning.app.failures import Study
from cops_lightning.app.guard import Guarded, broken, refused, said
from cops_lightning.app.judge import Judge, colors, overlay, png
from cops_lightning.app.visitors import MEGA, LimitError, Limits, Shown, Visitor, Visitors, shown_name, upload_path
from cops_lightning.core.errors import CopsError

PAGE = Path(__file__).parent / "page"
HOSTS = ["127.0.0.1", "localhost"]
LEVELS = (0.01, 0.05, 0.1, 0.2)


class Site:
    """The page's server over detectors, as an ASGI application in `app`.

    Args:
        judges: the detectors, one or two.
        folder: a temporary one, where uploads lie.
        examples: images that the page offers.
        study: run folders to look at; None without.
        limits: what is accepted.
        level: the false-alarm rate that a tab begins with.
    """

    def __init__(
        self,
        judges: Sequence[Judge],
        folder: Path,
        examples: Sequence[Example] = (),
        study: Study | None = None,
        limits: Limits | None = None,
        level: float = 0.05,
    ) -> None:
        self.judges, self.folder, self.examples, self.study = judges, folder, examples, study
        self.limits = limits or Limits()
        self.levels = sorted({*LEVELS, level})
        self.visitors = Visitors(folder, judges, self.limits, level)
        tab, image = "/api/tabs/{token}", "/api/tabs/{token}/images/{id}"
        routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", "/", self.page),
            ("GET", "/api/about", self.about),
            ("GET", "/api/colors.png", self.colors),
            ("GET", "/api/examples/{number:int}.png", self.example),
            ("POST", "/api/tabs", self.new),
            ("GET", tab, self.of_tab(lambda visitor, _: JSONResponse(visitor.about()))),
            ("POST", f"{tab}/images", self.upload),
            ("POST", f"{tab}/examples/{{number:int}}", self.of_tab(self.use_example)),
            ("DELETE", f"{tab}/images", self.of_tab(self.remove_all)),
            ("POST", f"{tab}/normal", self.upload_normal),
            ("DELETE", f"{tab}/normal", self.of_tab(self.remove_normal)),
            ("PUT", f"{tab}/level/{{level:float}}", self.of_tab(self.set_level)),
            ("GET", f"{tab}/results.csv", self.of_tab(self.csv)),
            ("GET", f"{tab}/results.zip", self.of_tab(self.zip)),
            ("GET", f"{tab}/calibration/{{judge:int}}.json", self.of_tab(self.calibration)),
            ("GET", image, self.of_image(self.detail)),
            ("DELETE", image, self.of_image(self.remove)),
            ("GET", f"{image}/view.jpg", self.of_image(lambda _, shown, __: FileResponse(shown.view))),
            ("GET", f"{image}/thumb.jpg", self.of_image(lambda _, shown, __: FileResponse(shown.thumb))),
            ("GET", f"{image}/{{judge:int}}/overlay.png", self.of_image(self.overlay)),
            ("GET", f"{image}/{{judge:int}}/parts", self.of_image(self.parts)),
            ("GET", "/api/runs", self.runs),
            ("GET", "/api/runs/{number:int}", self.run),
            ("GET", "/api/runs/{number:int}/images/{row:int}.png", self.run_image),
        ]
        self.app = Starlette(
            routes=[
                *(Route(path, act, methods=[method]) for method, path, act in routes),
                Mount("/page", StaticFiles(directory=PAGE)),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS), Middleware(Guarded)],
            exception_handlers={CopsError: said, HTTPException: refused, Exception: broken},  # type: ignore[dict-item]
        )

    # ---- the page

    def page(self, _request: Request) -> Response:
        """The page itself."""
        return FileResponse(PAGE / "index.html")

    def about(self, _request: Request) -> Response:
        """Detectors, examples, limits."""
        limits = self.limits
        return JSONResponse(
            {
                "detectors": [judge.about() for judge in self.judges],
                "examples": [{"name": one.name, "truth": one.truth} for one in self.examples],
                "limits": {"megabytes": limits.megabytes, "megapixels": limits.megapixels, "images": limits.images},
                "levels": self.levels,
                "runs": self.study is not None,
            }
        )

    def colors(self, _request: Request) -> Response:
        """The colour scale of heat maps."""
        return _png(colors())

    def example(self, request: Request) -> Response:
        """An example's image."""
        return _png(png(self._example(request).image))

    # ---- a tab and its images

    def new(self, request: Request) -> Response:
        """A tab's token, which all else is asked with: that of the query if it is still known, else a new one."""
        found = self.visitors.find(request.query_params.get("token", "")) or self.visitors.new()
        return JSONResponse({"token": found.token})

    def of_tab(self, act: Callable[[Visitor, Request], Response]) -> Callable[[Request], Response]:
        """A route of one tab."""
        return lambda request: act(self._visitor(request), request)

    def of_image(self, act: Callable[[Visitor, Shown, Request], Response]) -> Callable[[Request], Response]:
        """A route of one image of a tab."""

        def route(request: Request) -> Response:
            visitor = self._visitor(request)
            shown = visitor.images.get(request.path_params["id"])
            if shown is None:
                raise HTTPException(404, "There is no such image any more.")
            return act(visitor, shown, request)

        return route

    async def upload(self, request: Request) -> Response:
        """Images of a file in the body; its name is the query's `name`."""
        visitor, path, name = await self._received(request)
        return await self._kept(path, partial(self._judged, visitor, path, name))

    def use_example(self, visitor: Visitor, request: Request) -> Response:
        """An example as if it had been uploaded."""
        example = self._example(request)
        path = upload_path(visitor.folder, "example.png")
        path.write_bytes(png(example.image))
        return self._judged(visitor, path, example.name)

    async def upload_normal(self, request: Request) -> Response:
        """Normal images of a file in the body, to calibrate with."""
        visitor, path, name = await self._received(request)

        def add() -> Response:
            self.visitors.add_normal(visitor, path, name)
            return JSONResponse(visitor.about())

        return await self._kept(path, add)

    def remove(self, visitor: Visitor, shown: Shown, _request: Request) -> Response:
        """Forget an image."""
        visitor.remove([shown])
        return JSONResponse(visitor.about())

    def remove_all(self, visitor: Visitor, _request: Request) -> Response:
        """Forget all images of a tab."""
        visitor.remove(list(visitor.images.values()))
        return JSONResponse(visitor.about())

    def remove_normal(self, visitor: Visitor, _request: Request) -> Response:
        """Forget the normal images of a tab: the calibration is again the one that was given, if any."""
        with visitor.lock:
            visitor.normal = []
            visitor.recalibrate()
        return JSONResponse(visitor.about())

    def set_level(self, visitor: Visitor, request: Request) -> Response:
        """Another false-alarm rate."""
        level = request.path_params["level"]
        if level not in self.levels:
            raise CopsError(f"The false-alarm rate is {level}; expected one of {', '.join(map(str, self.levels))}.")
        with visitor.lock:
            visitor.level = level
            visitor.recalibrate()
        return JSONResponse(visitor.about())

    def detail(self, visitor: Visitor, shown: Shown, _request: Request) -> Response:
        """An image with its regions, by detector."""
        regions = []
        for number in range(len(self.judges)):
            prediction = visitor.prediction(shown, number)
            regions.append(
                {
                    "regions": [region._asdict() for region in prediction.regions],
                    "color_limit": prediction.color_limit,
                }
            )
        return JSONResponse({**visitor.card(shown), "found": regions})

    def overlay(self, visitor: Visitor, shown: Shown, request: Request) -> Response:
        """The map of a detector in colours, to be laid over the view."""
        return _png(overlay(visitor.prediction(shown, self._judge(request)), shown.view_size))

    def parts(self, _visitor: Visitor, shown: Shown, request: Request) -> Response:
        """What the method looked at."""
        number = self._judge(request)
        found = self.judges[number].parts(shown.predictions[number].picture)
        return JSONResponse(
            [
                {
                    "title": part.title,
                    "meaning": part.meaning,
                    "value": part.value,
                    "low": part.low,
                    "high": part.high,
                    "map": None
                    if part.map is None
                    else f"data:image/png;base64,{base64.b64encode(part.png()).decode()}",
                }
                for part in found
            ]
        )

    # ---- downloads

    def csv(self, visitor: Visitor, _request: Request) -> Response:
        """All results as a table."""
        return _download(results_csv(visitor).encode(), "text/csv", "results.csv")

    def zip(self, visitor: Visitor, _request: Request) -> Response:
        """All results as a table, and heat maps."""
        file = visitor.folder / "results.zip"
        with visitor.lock:
            results_zip(visitor, file)
            content = file.read_bytes()
            file.unlink()
        return _download(content, "application/zip", "results.zip")

    def calibration(self, visitor: Visitor, request: Request) -> Response:
        """The calibration of a detector as a file for `calibration=`."""
        found = visitor.calibrations[self._judge(request)]
        if found is None:
            raise HTTPException(404, "There is no calibration yet.")
        file = visitor.folder / "calibration.json"
        with visitor.lock:
            found.write(file)
            content = file.read_bytes()
            file.unlink()
        return _download(content, "application/json", "calibration.json")

    # ---- run folders

    def runs(self, _request: Request) -> Response:
        """The runs of the study."""
        return JSONResponse(self._study().runs())

    def run(self, request: Request) -> Response:
        """Results of a run and its images, the worst errors first."""
        return JSONResponse(self._study().run(request.path_params["number"]))

    def run_image(self, request: Request) -> Response:
        """The heat map of a run's image."""
        return FileResponse(self._study().picture(request.path_params["number"], request.path_params["row"]))

    # ---- helpers

    def _visitor(self, request: Request) -> Visitor:
        found = self.visitors.find(request.path_params["token"])
        if found is None:
            raise HTTPException(404, "The server does not know this tab any more. Reload the page.")
        return found

    def _example(self, request: Request) -> Example:
        number: int = request.path_params["number"]
        if number >= len(self.examples):
            raise HTTPException(404, "There is no such example.")
        return self.examples[number]

    def _judge(self, request: Request) -> int:
        number: int = request.path_params["judge"]
        if number >= len(self.judges):
            raise HTTPException(404, "There is no such detector.")
        return number

    def _study(self) -> Study:
        if self.study is None:
            raise HTTPException(404, "The server was started without runs=FOLDER.")
        return self.study

    def _judged(self, visitor: Visitor, path: Path, name: str) -> Response:
        return JSONResponse({"images": [visitor.card(shown) for shown in self.visitors.add(visitor, path, name)]})

    async def _received(self, request: Request) -> tuple[Visitor, Path, str]:
        """The tab, the file that the body was written to, and its name. Raises LimitError for one that is too large."""
        visitor = self._visitor(request)
        await to_thread.run_sync(self.visitors.require_room, visitor)
        name = shown_name(request.query_params.get("name", ""))
        most = self.limits.megabytes * MEGA
        body = io.BytesIO()
        try:
            async for chunk in request.stream():
                if body.tell() + len(chunk) > most:
                    raise LimitError(f"{name} has more than {self.limits.megabytes} MB, which is all that is accepted.")
                body.write(chunk)
        except ClientDisconnect:
            raise HTTPException(400, f"{name} ended before it was whole.") from None
        path = upload_path(visitor.folder, name)
        await to_thread.run_sync(path.write_bytes, body.getbuffer())
        return visitor, path, name

    async def _kept(self, path: Path, act: Callable[[], Response]) -> Response:
        """What `act` returns, in a thread; the upload is removed where it raises."""
        try:
            return await to_thread.run_sync(act)
        except Exception:
            path.unlink(missing_ok=True)
            raise


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")


def _download(content: bytes, kind: str, name: str) -> Response:
    return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
