"""Settings of what comes without being sent by DICOM: a folder that is watched, an Orthanc that is followed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dicom_bridge.settings.base import WITHOUT_IMAGES, ConfiguredFile, Settings
from dicom_bridge.settings.network import ClientTlsSettings
from dicom_bridge.settings.routing import Url


class WatchedFolderSettings(Settings):
    """A folder whose DICOM files are taken.

    Attributes:
        path: None: no folder is watched.
        poll_seconds: between two looks.
        settled_seconds: a file that changed later is left alone: it may still be written.
        delete: whether a file that was taken is deleted; else it is moved to `taken` in the folder.
    """

    path: Path | None = None
    poll_seconds: float = Field(default=5.0, gt=0)
    settled_seconds: float = Field(default=10.0, ge=0)
    delete: bool = False


class FollowedOrthancSettings(Settings):
    """An Orthanc whose stable studies are fetched by its REST API.

    Attributes:
        url: of its REST API; None: none is followed.
        user, password_file: HTTP basic authentication.
        tls: for https; None: the certificate authorities of the system.
        poll_seconds: between two looks at its changes.
        begin: with what happens from the first start on (`now`), or with all that it has (`oldest`).
        skipped_modalities: series that are not fetched: those that hold no image, our own results among them.
    """

    url: Url | None = None
    user: str | None = None
    password_file: ConfiguredFile | None = None
    tls: ClientTlsSettings | None = None
    poll_seconds: float = Field(default=5.0, gt=0)
    begin: Literal["now", "oldest"] = "now"
    skipped_modalities: tuple[str, ...] = WITHOUT_IMAGES
