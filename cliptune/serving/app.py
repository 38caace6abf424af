"""The HTTP application: what is asked, what is answered, and what is refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cliptune.data.images import ImageError
from cliptune.reading import json_value, shown
from cliptune.serving.batching import Batcher, Busy
from cliptune.serving.guard import Guard
from cliptune.serving.pictures import from_base64, prepared
from cliptune.serving.schemas import CLASSES, PREDICT
from cliptune.serving.served import Served
from cliptune.version import __version__

PAGE = Path(__file__).with_name("page.html")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Args:
        body: bytes of a body. pixels: width × height of a picture. pictures: in one request.
        seconds: until a body has arrived, and again until it is answered.
        classes: names in one list.
        batch: pictures that are computed together. wait: seconds that a lone picture waits for others.
        waiting: pictures that may wait; more are refused with 503.
    """

    body: int = 16 * 2**20
    pixels: int = 50_000_000
    pictures: int = 64
    seconds: float = 30.0
    classes: int = 10_000
    batch: int = 32
    wait: float = 0.003
    waiting: int = 4096

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"serve: {name} must be above 0, got {value}.")


def application(
    models: Mapping[str, Served],
    *,
    token: str | None = None,
    hosts: Sequence[str] = ("*",),
    limits: Limits = Limits(),
) -> FastAPI:
    """The application of these models; the first is the one that is meant where no name is given.

    Args:
        models: by name.
        token: that requests must bear (`Authorization: Bearer …`), except for the page and `/health`; None for none.
        hosts: names under which it may be asked (`Host:`), so that no page elsewhere can borrow it; "*" for any.
    Raises: ValueError for no model.
    """
    if not models:
        raise ValueError("serve: at least one run or export is needed, got none.")
    service = _Service(dict(models), limits)
    app = FastAPI(title="cliptune", version=__version__, docs_url=None, redoc_url=None, lifespan=service.lifespan)
    app.get("/", include_in_schema=False)(_page)
    app.get("/health")(service.health)
    app.get("/classes")(service.classes)
    app.put("/classes", openapi_extra=CLASSES)(service.set_classes)
    app.post("/predict", openapi_extra=PREDICT)(service.predict)
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_no_such_argument)
    app.add_middleware(Guard, most=limits.body, seconds=limits.seconds, token=None if token is None else token.encode())
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


def _page() -> HTMLResponse:
    """A page to drop a picture on."""
    return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=_HEADERS)


async def _no_such_argument(request: Request, error: RequestValidationError) -> JSONResponse:
    wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return JSONResponse({"error": shown(wrong, 300)}, 422)


async def _refused(request: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


class _Service:
    def __init__(self, models: dict[str, Served], limits: Limits) -> None:
        self._models, self._limits = models, limits
        self._batchers: dict[str, Batcher] = {}

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        limits = self._limits
        self._decoders = ThreadPoolExecutor(_cores(), thread_name_prefix="cliptune-decode")
        for name, model in self._models.items():
            self._batchers[name] = Batcher(model.answer, limits.batch, limits.wait, limits.waiting)
            self._batchers[name].start()
        yield
        for batcher in self._batchers.values():
            await batcher.stop()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    # -- what is asked ----------------------------------------------------------------------------------------

    async def health(self) -> dict[str, Any]:
        """Is it there, and how much is waiting?"""
        return {"status": "ok", "version": __version__, "waiting": sum(b.waiting for b in self._batchers.values())}

    async def classes(self, model: str | None = None) -> dict[str, Any]:
        """Class names of a model, in the order of its probabilities, and the names of all models."""
        name, served = self._named(model)
        return {
            "model": name,
            "classes": list(served.class_names),
            "changeable": served.changeable,
            "models": list(self._models),
        }

    async def set_classes(self, request: Request, model: str | None = None) -> dict[str, Any]:
        """Other classes from now on, for everyone; 409 where the method cannot speak of others."""
        name, served = self._named(model)
        said = await _json_object(request)
        names, template = said.get("classes"), said.get("template")
        if not isinstance(names, list) or not names or not all(isinstance(one, str) and one.strip() for one in names):
            raise HTTPException(422, 'Expected {"classes": ["lynx", "puma"]}, a list of names that are not blank.')
        if len(names) > self._limits.classes or len(set(names)) < len(names):
            raise HTTPException(422, f"Expected at most {self._limits.classes:,} names, each given once.")
        if template is not None and not isinstance(template, str):
            raise HTTPException(422, "Expected the template to be a text with {} for the name.")
        try:
            await self._batchers[name].call(lambda: served.set_classes(names, template))
        except ValueError as error:
            raise HTTPException(422 if served.changeable else 409, shown(str(error), 500)) from error
        return await self.classes(name)

    async def predict(self, request: Request, model: str | None = None, top: int = 5) -> dict[str, Any]:
        """The most probable classes of each picture."""
        if top < 1:
            raise HTTPException(422, f"top must be at least 1, got {top}.")
        name, served = self._named(model)
        contents = await self._pictures(request)
        try:
            answers = await asyncio.wait_for(
                asyncio.gather(*(self._one(name, served, who, content) for who, content in contents)),
                self._limits.seconds,
            )
        except ImageError as error:
            raise HTTPException(422, str(error)) from error
        except Busy as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise HTTPException(
                503, f"No answer within {self._limits.seconds:g} seconds. Try again later.", {"Retry-After": "5"}
            ) from error
        results = [
            {"image": who, "predictions": _best(names, row, top)}
            for (who, _), (names, row) in zip(contents, answers, strict=True)
        ]
        return {"model": name, "results": results}

    async def _one(self, name: str, served: Served, who: str, content: bytes) -> tuple[tuple[str, ...], np.ndarray]:
        batcher = self._batchers[name]
        with batcher.expecting():
            pixels = await asyncio.get_running_loop().run_in_executor(
                self._decoders,
                prepared,
                content,
                served.resolution,
                self._limits.pixels,
                f"Picture {shown(who)}",
                served.pictures,
            )
        return await batcher.ask(pixels)

    def _named(self, model: str | None) -> tuple[str, Served]:
        name = next(iter(self._models)) if model is None else model
        if name not in self._models:
            raise HTTPException(404, f"There is no model {shown(name)!r}; there are {', '.join(self._models)}.")
        return name, self._models[name]

    async def _pictures(self, request: Request) -> list[tuple[str, bytes]]:
        """(name, bytes) of the pictures in a body of any of the kinds that are taken."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            found = await self._of_form(request)
        elif kind == "application/json":
            found = await self._of_json(request)
        elif kind.startswith("image/") or kind == "application/octet-stream":
            found = [("0", await request.body())]
        else:
            raise HTTPException(
                415,
                "Expected multipart/form-data with files called image, application/json with pictures in base64 under "
                f"images, or a picture as the body (image/…), got {shown(kind)!r}.",
            )
        if not found or len(found) > self._limits.pictures:
            raise HTTPException(422, f"Expected 1 to {self._limits.pictures} pictures, got {len(found)}.")
        return found

    async def _of_form(self, request: Request) -> list[tuple[str, bytes]]:
        _, options = parse_options_header(request.headers["content-type"])
        boundary = options.get(b"boundary")
        if boundary and not (await request.body()).rstrip().endswith(b"--%b--" % boundary):
            raise HTTPException(400, "The form was cut short: its last boundary is missing.")  # and with it a picture
        most = self._limits.pictures
        async with request.form(max_files=most, max_fields=most) as form:
            items = form.multi_items()
            files = [value for _, value in items if isinstance(value, UploadFile)]
            if len(files) < len(items):
                raise HTTPException(422, "Expected files called image in the form, got a field without a file name.")
            return [(file.filename or str(i), await file.read()) for i, file in enumerate(files)]

    async def _of_json(self, request: Request) -> list[tuple[str, bytes]]:
        said = await _json_object(request)
        texts = said.get("images", [said["image"]] if "image" in said else None)
        if not isinstance(texts, list):
            raise HTTPException(422, 'Expected {"images": ["…"]} or {"image": "…"} with pictures in base64.')
        try:
            return [(str(i), from_base64(text, f"Picture {i}")) for i, text in enumerate(texts)]
        except ImageError as error:
            raise HTTPException(422, str(error)) from error


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        said = json_value(await request.body())
    except ValueError as error:
        raise HTTPException(400, f"The body is no JSON: {shown(str(error), 200)}.") from error
    if not isinstance(said, dict):
        raise HTTPException(422, f"Expected a JSON object, got {type(said).__name__}.")
    return said


def _cores() -> int:
    """Cores that this process may use: more decoders than these only take turns."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _best(names: tuple[str, ...], row: np.ndarray, top: int) -> list[dict[str, Any]]:
    best = (-row).argsort(kind="stable")[:top]
    return [{"class": names[i], "probability": float(row[i])} for i in best]
