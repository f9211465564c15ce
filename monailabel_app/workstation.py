"""All that a viewer needs, on loopback: a PACS with studies in it, the gateway, and the annotation server with OHIF."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.demo.line import gateway_settings
from dicom_bridge.demo.orthanc import LocalOrthanc
from dicom_bridge.demo.studies import DemoStudy, own_studies, packaged_studies
from dicom_bridge.gateway.composition import Gateway
from monailabel_app.server.lifetime import AnnotationServer
from monailabel_app.settings import AnnotateSettings
from rcmed.assistant import Assistant

MODALITY_AE = "MODALITY"


class Workstation:
    """Runs inside its `with` block; what the PACS and the annotation server hold stays in the state folder.

    Attributes:
        studies: that were sent to the PACS, and to the gateway, whose results go to the PACS, too.
    """

    def __init__(self, settings: AnnotateSettings, studies: Path | None = None, prompt: str = "") -> None:
        """Prepare; nothing runs yet.

        Args:
            settings: of the annotation server; its `studies` are those of the PACS, whatever they say.
            studies: a folder with one's own DICOM files; None: those of the demo.
            prompt: what the gateway looks for in one's own studies; empty: what is there.
        """
        self._settings = settings
        self._folder = settings.state.resolve()
        self._own = studies
        self._prompt = prompt
        self._running = ExitStack()
        self.studies: list[DemoStudy] = []
        self.orthanc = LocalOrthanc(self._folder / "orthanc")
        self._gateway: Gateway | None = None
        self._annotation: AnnotationServer | None = None

    @property
    def ohif_url(self) -> str:
        """OHIF's list of studies."""
        assert self._annotation is not None, "the workstation runs only inside its `with` block"
        return f"{self._annotation.address}ohif/"

    @property
    def status_url(self) -> str:
        """The gateway's status page."""
        assert self._gateway is not None, "the workstation runs only inside its `with` block"
        return f"http://127.0.0.1:{self._gateway.ports.web}/"

    def __enter__(self) -> Workstation:
        """Start everything and send the studies; the gateway works on them afterwards.

        Raises:
            ConfigurationError: Orthanc is missing, or a port is taken.
            InputError: there is no DICOM file in one's own folder.
        """
        with ExitStack() as running:
            folder = self._folder / "studies"
            self.studies = packaged_studies(folder) if self._own is None else own_studies(self._own, self._prompt)
            orthanc = running.enter_context(self.orthanc)
            settings = self._settings.model_copy(update={"studies": orthanc.dicomweb_url})
            self._annotation = running.enter_context(AnnotationServer(settings))
            assistant = Assistant.from_pretrained(settings.model, settings.device)
            configured = gateway_settings(self._folder / "gateway", self.studies, orthanc.ae_title, orthanc.dicom_port)
            self._gateway = running.enter_context(Gateway(configured, assistant))
            for study in self.studies:
                send_files(study.files, "127.0.0.1", orthanc.dicom_port, orthanc.ae_title, MODALITY_AE)
                send_files(
                    study.files, "127.0.0.1", self._gateway.ports.dicom, configured.receive.ae_title, MODALITY_AE
                )
            self._running = running.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
