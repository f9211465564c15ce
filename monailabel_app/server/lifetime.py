"""The annotation server while it runs: web server, sessions that expire, processes that learn."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from dicom_bridge.web.server import WebServer
from monailabel_app.server.application import SessionSweeper, create_server, load_app
from monailabel_app.settings import AnnotateSettings
from rcmed.errors import ConfigurationError


class AnnotationServer:
    """Listens inside its `with` block; what it started ends with it, a training in progress included."""

    def __init__(self, settings: AnnotateSettings) -> None:
        self.settings = settings
        self._web: WebServer | None = None
        self._running = ExitStack()

    @property
    def address(self) -> str:
        """Of MONAI Label, with a slash at its end; OHIF is below it, at `ohif/`."""
        assert self._web is not None, "the server listens only inside its `with` block"
        host = self.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._web.port}/"

    def __enter__(self) -> AnnotationServer:
        """Open the store, load the model, listen.

        Raises:
            RCMedError: the studies, the model or a setting can't be used, or the port is taken.
        """
        with ExitStack() as running:
            served = load_app(self.settings)
            self._web = WebServer(create_server(served, self.settings), self.settings.host, self.settings.port)
            try:
                self._web.start()
            except OSError as error:
                place = f"{self.settings.host}:{self.settings.port}"
                raise ConfigurationError(
                    f"annotate: port: can't listen on {place} ({error.strerror}); choose another with --port"
                ) from error
            running.callback(_stop_learning)
            running.callback(self._web.stop)
            sweeper = SessionSweeper(served)
            sweeper.start()
            running.callback(sweeper.stop)
            self._running = running.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()


def _stop_learning() -> None:
    from monailabel.utils.async_tasks.utils import stop_background_task

    for method in ("train", "scoring"):
        stop_background_task(method)
