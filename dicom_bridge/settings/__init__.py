"""The gateway's settings: typed, frozen, and the one place of every default."""

from dicom_bridge.settings.gateway import CompletionSettings, GatewaySettings, JobSettings, ModelSettings
from dicom_bridge.settings.network import (
    ClientTlsSettings,
    PeerSettings,
    ReceiveSettings,
    ServerTlsSettings,
    WebSettings,
)
from dicom_bridge.settings.routing import (
    CStoreDestination,
    DeliverySettings,
    DestinationSettings,
    FolderDestination,
    RoutingSettings,
)

__all__ = [
    "CStoreDestination",
    "ClientTlsSettings",
    "CompletionSettings",
    "DeliverySettings",
    "DestinationSettings",
    "FolderDestination",
    "GatewaySettings",
    "JobSettings",
    "ModelSettings",
    "PeerSettings",
    "ReceiveSettings",
    "RoutingSettings",
    "ServerTlsSettings",
    "WebSettings",
]
