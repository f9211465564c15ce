"""Settings of archives that studies are fetched from when someone asks for them: `rcmed process`, POST /api/pull."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dicom_bridge.settings.base import WITHOUT_IMAGES, AeTitle, ConfiguredFile, PeerPort, Settings
from dicom_bridge.settings.network import ClientTlsSettings
from dicom_bridge.settings.routing import Url


class DicomWebSource(Settings):
    """A DICOMweb server: asked by QIDO-RS, fetched from by WADO-RS (PS3.18 10.6 and 10.4).

    Attributes:
        url: its base, for example `https://pacs.hospital.example/dicom-web`.
        token_file: a bearer token; or
        user, password_file: HTTP basic authentication.
        tls: for https; None: the certificate authorities of the system.
    """

    type: Literal["dicomweb"]
    url: Url
    token_file: ConfiguredFile | None = None
    user: str | None = None
    password_file: ConfiguredFile | None = None
    tls: ClientTlsSettings | None = None


class QueryRetrieveSource(Settings):
    """An application entity: asked by C-FIND, fetched from by C-MOVE or C-GET (PS3.4 C, study root).

    Attributes:
        type: `c_move`: it sends to our DICOM port, and must know our AE title, host and port; `c_get`: on the
            association that asks.
        host, port, called_ae: where it listens, and its AE title.
        calling_ae: our AE title.
        tls: None: plain DICOM.
    """

    type: Literal["c_move", "c_get"]
    host: str = Field(min_length=1)
    port: PeerPort
    called_ae: AeTitle
    calling_ae: AeTitle = "RCMED"
    tls: ClientTlsSettings | None = None


SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,15}$")]
"""Routes see it as the AE title of the sender."""

AnySource = DicomWebSource | QueryRetrieveSource
SourceSettings = Annotated[AnySource, Field(discriminator="type")]


class PullSettings(Settings):
    """How studies are fetched: one after another, and not faster than they are worked on.

    Attributes:
        maximum_unfinished: no study is fetched while this many studies are open or jobs wait or run.
        maximum_attempts: then the order is given up and said so.
        first_wait_seconds: between the first and the second attempt; doubles from then on.
        maximum_wait_seconds: no wait is longer.
        timeout_seconds: for connecting and for each answer.
        skipped_modalities: series that are not fetched: those that hold no image, our own results among them.
    """

    maximum_unfinished: int = Field(default=4, ge=1)
    maximum_attempts: int = Field(default=100, ge=1)
    first_wait_seconds: float = Field(default=5.0, gt=0)
    maximum_wait_seconds: float = Field(default=600.0, gt=0)
    timeout_seconds: float = Field(default=60.0, gt=0)
    skipped_modalities: tuple[str, ...] = WITHOUT_IMAGES

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed."""
        return min(self.first_wait_seconds * 2.0 ** min(attempt - 1, 30), self.maximum_wait_seconds)
