"""The web application: our routes in place of MONAI Label's, with the same paths and replies.

Theirs run an infer inside the event loop, so that nothing else is answered meanwhile, and turn most faults into a bare
500; each router here says what it does otherwise.
"""

from __future__ import annotations

import logging
import threading

import requests
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, RedirectResponse
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)

from monailabel_app.datastores.dicom.access import PeerAccess
from monailabel_app.main import MEGABYTE, RCMedApp
from monailabel_app.server.guards import LOOPBACK_ORIGIN, Guards
from monailabel_app.server.routes import infer, info, proxy, sessions, store, tasks, token, versions
from monailabel_app.server.routes.access import Authenticator
from monailabel_app.server.routes.viewer import Viewer
from monailabel_app.settings import AnnotateSettings
from monailabel_app.tasks.batch import BatchRuns
from monailabel_app.tasks.resident_assistant import OutOfMemoryError
from rcmed.errors import RCMedError

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0


def load_app(settings: AnnotateSettings) -> RCMedApp:
    """Write the app folder, set the environment, and load the app as MONAI Label does, for its own modules too.

    Raises:
        RCMedError: the studies, the model or a setting can't be used.
    """
    from monailabel_app.app_folder import set_environment, studies_path, write_app_folder

    folder = write_app_folder(settings)
    set_environment(settings, folder)
    from monailabel.interfaces.utils.app import app_instance

    app: RCMedApp = app_instance(app_dir=str(folder), studies=studies_path(settings), conf={})
    app.server_mode(True)
    app.on_init_complete()
    return app


def create_server(served: RCMedApp, settings: AnnotateSettings) -> FastAPI:
    """The ASGI application around an app.

    Raises:
        ConfigurationError: a key of the authentication, or the viewer, is missing.
    """
    api = FastAPI(title="RCMed for 3D Slicer and OHIF", docs_url=None, redoc_url=None)
    api.state.monailabel = served
    api.state.infers = infer.InferQueue(settings.waiting_infers)
    api.state.batches = BatchRuns(served.batch_infer)
    api.state.authenticator = Authenticator(settings.authentication)
    api.state.peer = _peer_session(settings)
    for router in (m.router for m in (token, info, infer, store, sessions, tasks, versions, proxy)):
        api.include_router(router)
    api.mount("/ohif", Viewer(), name="ohif")
    api.add_api_route("/", lambda: RedirectResponse("/ohif/"), include_in_schema=False)
    _answer_faults(api)
    api.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_origin_regex=LOOPBACK_ORIGIN,
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Accept"],
    )
    api.add_middleware(
        Guards,
        most_bytes=settings.upload_megabytes * MEGABYTE,
        hosts=(settings.host, *settings.allowed_hosts),
        origins=settings.cors_origins,
    )
    return api


class SessionSweeper:
    """Removes expired sessions every minute, until it is stopped."""

    def __init__(self, served: RCMedApp, seconds: float = SWEEP_SECONDS) -> None:
        self._served = served
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sessions", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _work(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._served.cleanup_sessions()
            except OSError as error:
                logger.warning("sessions can't be removed: %s", error)


def _peer_session(settings: AnnotateSettings) -> requests.Session:
    """How the DICOMweb server of the studies is asked; the store's own way, where it has one."""
    if settings.is_remote:
        return PeerAccess.from_environment().session(settings.studies)
    session = requests.Session()
    session.trust_env = False
    return session


def _answer_faults(api: FastAPI) -> None:
    """One readable line in `detail` for every fault."""

    def unusable(request: Request, error: Exception) -> JSONResponse:
        return _detail(422, error)

    def monailabel(request: Request, error: Exception) -> JSONResponse:
        kind = getattr(error, "error", None)
        is_missing = isinstance(error, ImageNotFoundException | LabelNotFoundException)
        status = 404 if is_missing else 400 if kind is MONAILabelError.INVALID_INPUT else 500
        return _detail(status, getattr(error, "msg", error))

    def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return _detail(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")

    def no_memory(request: Request, error: Exception) -> JSONResponse:
        return _detail(503, error)

    def ours(request: Request, error: Exception) -> JSONResponse:
        # The text may hold paths or values of tags; the log has it.
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _detail(500, f"{type(error).__name__} (a fault of ours; the server's log shows where)")

    api.add_exception_handler(RCMedError, unusable)
    api.add_exception_handler(MONAILabelException, monailabel)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(OutOfMemoryError, no_memory)
    api.add_exception_handler(Exception, ours)


def _detail(status: int, text: object) -> JSONResponse:
    return JSONResponse({"detail": " ".join(str(text).split())}, status)
