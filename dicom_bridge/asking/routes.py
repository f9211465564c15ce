"""What the page asks the server: uploads, slices, answers, downloads."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, FiniteFloat
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from dicom_bridge.asking.asking import Asking
from dicom_bridge.asking.content import (
    Question,
    answer_content,
    hints_of,
    names_content,
    upload_content,
)
from dicom_bridge.asking.downloads import mask_file, zipped_answer
from dicom_bridge.asking.planes import overlay_png, slice_png
from dicom_bridge.asking.uploads import AskedImage, Receiving, Uploads, open_upload
from dicom_bridge.errors import NotThereError
from rcmed.errors import RCMedError
from rcmed.findings import Findings
from rcmed.hints import Hint
from rcmed.modality import Modality

_MOST_OVERLAYS = 200

logger = logging.getLogger(__name__)


class HowToRead(BaseModel):
    """What the user says of files that do not say it themselves."""

    modality: Modality | None = None


def asking_routes(uploads: Uploads, asking: Asking, modality: Modality | None = None) -> APIRouter:
    """The interface of the page.

    Args:
        uploads: where what is dropped is kept.
        asking: answers.
        modality: of files that do not say, where the page does not say it either.
    """
    router = APIRouter(prefix="/api")

    @router.get("/model")
    async def model() -> dict[str, Any]:
        assistant = await asking.assistant()
        identity = assistant.identity
        return {
            "name": identity.name,
            "version": identity.version,
            "weights_sha256": identity.weights_sha256,
            "takes_hints": assistant.takes_hints,
            "takes_hints_without_name": assistant.takes_hints_without_name,
        }

    @router.post("/uploads", status_code=201)
    def begin() -> dict[str, Any]:
        limits = uploads.limits
        upload = uploads.begin()
        return {"id": upload.identifier, "most_bytes": limits.upload_bytes, "most_files": limits.upload_files}

    @router.put("/uploads/{upload_id}/files/{name:path}", status_code=201)
    async def receive(request: Request, upload_id: str, name: str) -> dict[str, Any]:
        upload = uploads.get(upload_id)
        receiving = Receiving(uploads, upload, name)
        is_whole = False
        try:
            async for part in request.stream():
                receiving.write(part)
            is_whole = True
        except ClientDisconnect:
            raise HTTPException(400, f"{name}: the connection was broken off") from None
        finally:
            receiving.end(is_whole)
        uploads.keep_within_bounds()
        return {"nbytes": upload.nbytes, "files": upload.files}

    @router.post("/uploads/{upload_id}/read")
    def read(upload_id: str, how: HowToRead) -> dict[str, Any]:
        upload = uploads.get(upload_id)
        open_upload(uploads, upload, how.modality or modality)
        return upload_content(upload)

    @router.get("/uploads/{upload_id}")
    def content(upload_id: str) -> dict[str, Any]:
        return upload_content(uploads.get(upload_id))

    @router.delete("/uploads/{upload_id}", status_code=204)
    def forget(upload_id: str) -> None:
        uploads.forget(upload_id)

    router.include_router(_image_routes(uploads, asking), prefix="/uploads/{upload_id}/images/{image}")
    return router


def _image_routes(uploads: Uploads, asking: Asking) -> APIRouter:
    router = APIRouter()

    def asked_image(upload_id: str, image: int) -> AskedImage:
        return uploads.get(upload_id).image(image)

    @router.get("/names")
    async def names(upload_id: str, image: int) -> list[dict[str, Any]]:
        asked = asked_image(upload_id, image)
        assistant = await asking.assistant()
        return await run_in_threadpool(lambda: names_content(asked.image, assistant.known_targets(asked.image)))

    @router.get("/slices/{axis}/{index}.png")
    def slice_picture(
        upload_id: str,
        image: int,
        axis: int,
        index: int,
        centre: FiniteFloat | None = None,
        width: Annotated[FiniteFloat | None, Query(gt=0)] = None,
    ) -> Response:
        """`centre` and `width` of the window, both or none."""
        asked = asked_image(upload_id, image)
        window = None if centre is None or width is None else (centre, width)
        return Response(slice_png(asked.image, asked.plane(axis), index, window), media_type="image/png")

    @router.get("/overlays/{axis}/{index}.png")
    def overlay(
        upload_id: str,
        image: int,
        axis: int,
        index: int,
        answer: int,
        finding: Annotated[list[int], Query(max_length=_MOST_OVERLAYS)],
    ) -> Response:
        """The masks of some findings of an answer, painted one above the other."""
        asked = asked_image(upload_id, image)
        plane, kept = asked.plane(axis), asked.require_answer(answer)
        masks = []
        for number in finding:
            mask, target = kept.mask_of(number, plane, index), kept.finding(number).target
            if mask is not None and target is not None:
                masks.append((mask, target.colour))
        return Response(overlay_png(masks, plane.shown_shape), media_type="image/png")

    @router.post("/find")
    async def find(upload_id: str, image: int, question: Question) -> StreamingResponse:
        """Lines of JSON: `{"progress": share}` now and then, at last `{"answer": ...}` or `{"error": line}`."""
        asked = asked_image(upload_id, image)
        hints = hints_of(question, asked.planes[0])
        if hints and not (await asking.assistant()).takes_hints:
            raise HTTPException(422, "these weights take no clicks and boxes: name what to find")
        return StreamingResponse(_found(asking, asked, question.words, hints), media_type="application/x-ndjson")

    @router.get("/answer.zip")
    def archive(upload_id: str, image: int, answer: int) -> Response:
        asked = asked_image(upload_id, image)
        content = zipped_answer(asked, asked.require_answer(answer))
        return _download("answer.zip", content, "application/zip")

    @router.get("/masks/{number}")
    def mask(upload_id: str, image: int, number: int, answer: int) -> Response:
        asked = asked_image(upload_id, image)
        named = mask_file(asked, asked.require_answer(answer), number)
        if named is None:
            raise NotThereError(f"finding {number} has no mask")
        return _download(*named, "application/octet-stream")

    return router


async def _found(asking: Asking, asked: AskedImage, words: str, hints: Mapping[int, Hint]) -> AsyncIterator[str]:
    try:
        async for said in asking.find(asked.image, words, hints):
            if isinstance(said, Findings):
                answer = asked.answered(said)
                yield _line({"answer": await run_in_threadpool(answer_content, asked, answer)})
            else:
                yield _line({"progress": round(said, 3)})
    except RCMedError as error:
        yield _line({"error": " ".join(str(error).split())})
    except Exception as error:
        # The answer has begun: its status can't say it any more.
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            yield _line({"error": "there is no memory left for this image; ask a smaller one, or with --device cpu"})
            return
        logger.exception("asking failed")
        yield _line({"error": "a fault of ours; the terminal of rcmed ask says more"})


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def _download(name: str, content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
