"""STOW-RS: instances by HTTP (PS3.18 10.5). Each part of the request goes through the intake as a C-STORE would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.message import Message

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from pydicom.dataset import Dataset
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from dicom_bridge.delivery.dimse.commitment import reference
from dicom_bridge.events.sink import Observer
from dicom_bridge.ingest.intake import Arrived, InstanceIntake, Origin, RefusedInstanceError
from dicom_bridge.web.multipart import MultipartError, PartSplitter

CALLING_AE = "STOW-RS"
_DICOM_JSON = "application/dicom+json"


def stow(intake: InstanceIntake, observer: Observer, our_ae: str, idle_seconds: float) -> APIRouter:
    """The part of the web application: POST `/dicom-web/studies` and `/dicom-web/studies/{study}`.

    Args:
        intake: takes the instances; routes see them as from the AE title STOW-RS.
        observer: is told of instances.
        our_ae: our AE title, which routes see as the called one.
        idle_seconds: a request of which nothing comes for this long is ended.
    """
    router = APIRouter(prefix="/dicom-web")

    @router.post("/studies")
    @router.post("/studies/{study_uid}")
    async def store(request: Request, study_uid: str | None = None) -> JSONResponse:
        boundary = _boundary(request.headers.get("content-type", ""))
        address = request.client.host if request.client else ""
        taking = _Taking(intake, observer, our_ae, address, study_uid)
        parts = PartSplitter(boundary, intake.maximum_bytes)
        is_whole = False
        try:
            async for chunk in _chunks(request, idle_seconds):
                for content in parts.feed(chunk):
                    await run_in_threadpool(taking.take, content)
            if not parts.is_complete:
                raise HTTPException(400, "the request ended before its last boundary")
            is_whole = True
        except ClientDisconnect:
            raise HTTPException(400, "the request was broken off") from None
        except MultipartError as error:
            raise HTTPException(400, str(error)) from None
        finally:
            await run_in_threadpool(taking.end, is_aborted=not is_whole)
        return taking.answer()

    return router


class _Taking:
    """What becomes of the parts of one request."""

    def __init__(
        self, intake: InstanceIntake, observer: Observer, our_ae: str, address: str, study_uid: str | None
    ) -> None:
        self._intake = intake
        self._observer = observer
        self._our_ae = our_ae
        self._address = address
        self._study_uid = study_uid
        self._origin: Origin | None = None
        self._taken: list[Arrived] = []
        self._refused: list[RefusedInstanceError] = []

    def take(self, content: bytearray | None) -> None:
        """Store one part."""
        if self._origin is None:
            identifier = self._intake.index.open_association(CALLING_AE, self._our_ae, self._address)
            self._origin = Origin(identifier, CALLING_AE, self._our_ae)
        try:
            if content is None:
                self._intake.require_size(self._intake.maximum_bytes + 1)
            arrived = self._intake.take((memoryview(content or b""),), self._origin, expected_study=self._study_uid)
        except RefusedInstanceError as error:
            self._refused.append(error)
            uid = error.instance_uid or "of unknown UID"
            self._intake.index.add_line(f"instance {uid} by STOW-RS from {self._address} refused: {error}")
            self._observer.instance_refused("stow", uid, self._address, str(error))
            return
        self._taken.append(arrived)
        self._observer.instance_taken("stow", arrived.outcome, len(content or b""))

    def end(self, is_aborted: bool) -> None:
        """No part comes any more; `is_aborted`: though some should have."""
        if self._origin is not None:
            self._intake.end(self._origin, is_aborted)
            self._observer.instances_transferred(self._origin.association)

    def answer(self) -> JSONResponse:
        """Which instances were stored and which were not, as PS3.18 10.5.3 has it."""
        response = Dataset()
        if self._taken:
            response.ReferencedSOPSequence = [reference(one.sop_class_uid, one.instance_uid) for one in self._taken]
        if self._refused:
            response.FailedSOPSequence = [_failed(error) for error in self._refused]
        if not self._refused:
            status = 200
        elif self._taken:
            status = 202
        else:
            status = 503 if all(error.is_passing for error in self._refused) else 409
        return JSONResponse(response.to_json_dict(), status_code=status, media_type=_DICOM_JSON)


def _failed(error: RefusedInstanceError) -> Dataset:
    item = reference(error.sop_class_uid or "", error.instance_uid or "")
    item.FailureReason = error.status
    return item


async def _chunks(request: Request, idle_seconds: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, f"nothing came for {idle_seconds:g} s") from None
        yield chunk


def _boundary(content_type: str) -> str:
    header = Message()
    header["Content-Type"] = content_type
    kind = str(header.get_param("type", "application/dicom")).lower()  # RFC 2045, 5.1
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/related" or kind != "application/dicom":
        raise HTTPException(415, 'send multipart/related; type="application/dicom"')
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise HTTPException(400, "the Content-Type names no boundary")
    return boundary
