"""The gateway's settings: typed, frozen, and the one place of every default."""

from dicom_bridge.settings.database import DatabaseSettings, WorkerSettings
from dicom_bridge.settings.gateway import (
    CompletionSettings,
    GatewaySettings,
    JobSettings,
    LogSettings,
    ModelSettings,
    TelemetrySettings,
)
from dicom_bridge.settings.network import (
    ClientTlsSettings,
    OidcSettings,
    PeerSettings,
    ReceiveSettings,
    ServerTlsSettings,
    WebSettings,
)
from dicom_bridge.settings.pulling import AnySource, DicomWebSource, PullSettings, QueryRetrieveSource
from dicom_bridge.settings.retention import RetentionSettings
from dicom_bridge.settings.routing import (
    AnyDestination,
    CStoreDestination,
    DeliverySettings,
    DestinationSettings,
    FhirDestination,
    FolderDestination,
    MllpDestination,
    OrthancDestination,
    RoutingSettings,
    StowDestination,
)
from dicom_bridge.settings.sources import FollowedOrthancSettings, WatchedFolderSettings

__all__ = [
    "AnyDestination",
    "AnySource",
    "CStoreDestination",
    "ClientTlsSettings",
    "CompletionSettings",
    "DatabaseSettings",
    "DeliverySettings",
    "DestinationSettings",
    "DicomWebSource",
    "FhirDestination",
    "FolderDestination",
    "FollowedOrthancSettings",
    "GatewaySettings",
    "JobSettings",
    "LogSettings",
    "MllpDestination",
    "ModelSettings",
    "OidcSettings",
    "OrthancDestination",
    "PeerSettings",
    "PullSettings",
    "QueryRetrieveSource",
    "ReceiveSettings",
    "RetentionSettings",
    "RoutingSettings",
    "ServerTlsSettings",
    "StowDestination",
    "TelemetrySettings",
    "WatchedFolderSettings",
    "WebSettings",
    "WorkerSettings",
]
