"""Settings of everything that listens: the DICOM port and the web port, who may come, and how much."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from dicom_bridge.settings.base import (
    WITHOUT_IMAGES,
    AeTitle,
    ConfiguredFile,
    ListeningHost,
    PeerPort,
    Port,
    Settings,
    is_loopback,
)

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class ServerTlsSettings(Settings):
    """TLS on a port that we listen on; 1.2 at least (PS3.15 B.12, after BCP 195).

    Attributes:
        certificate: PEM, ours, followed by the intermediate ones.
        key: PEM, the private key, not encrypted.
        trusted: PEM with the authorities (or the very certificates) of the peers; each must then show a certificate
            that one of them signed (mutual TLS). None: the line is encrypted, and whoever comes is answered.
    """

    certificate: ConfiguredFile
    key: ConfiguredFile
    trusted: ConfiguredFile | None = None


class ClientTlsSettings(Settings):
    """TLS to a peer.

    Attributes:
        trusted: PEM with the authorities that may have signed the peer's certificate; None: those of the system.
        certificate, key: PEM, ours, where the peer asks for one.
        check_host: whether the peer's certificate must name the host that we call.
    """

    trusted: ConfiguredFile | None = None
    certificate: ConfiguredFile | None = None
    key: ConfiguredFile | None = None
    check_host: bool = True

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> ClientTlsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or none")
        return self


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(f"must be an address or a network like 10.1.0.0/16: {error}") from None


def _fingerprint(text: str) -> str:
    plain = text.replace(":", "").lower()
    if _FINGERPRINT.fullmatch(plain) is None:
        raise ValueError("must be a SHA-256 fingerprint, 64 hexadecimal digits (openssl x509 -fingerprint -sha256)")
    return plain


class ReportTo(Settings):
    """Where a peer takes reports of storage commitment that it asked for."""

    host: str = Field(min_length=1)
    port: PeerPort
    tls: ClientTlsSettings | None = None


class PeerSettings(Settings):
    """An application entity that may associate. An empty list asks nothing; every list that is not empty must match.

    Attributes:
        name: for logs and the audit trail.
        calling_ae: AE titles that it may call itself.
        called_ae: AE titles that it may call us.
        addresses: addresses or networks (CIDR) that it may come from.
        certificates: SHA-256 fingerprints of the certificates that it may show.
        report_to: where reports of storage commitment go; None: onto the association that asks for them.
    """

    name: str = Field(min_length=1)
    calling_ae: tuple[AeTitle, ...] = ()
    called_ae: tuple[AeTitle, ...] = ()
    addresses: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    certificates: tuple[Annotated[str, AfterValidator(_fingerprint)], ...] = ()
    report_to: ReportTo | None = None

    @model_validator(mode="after")
    def _reports_have_a_name(self) -> PeerSettings:
        if self.report_to is not None and not self.calling_ae:
            raise ValueError("report_to needs calling_ae: the AE title that reports go to")
        return self


class ReceiveSettings(Settings):
    """The storage SCP.

    Attributes:
        host: address to listen on. Beyond loopback only with mutual TLS or with peers told by their addresses.
        port: 0 takes a free port.
        ae_title: our name; peers that call another one are answered all the same unless `require_called_ae`.
        require_called_ae: refuse associations that call another AE title.
        tls: None: plain DICOM.
        peers: who may associate; empty: whoever reaches the port.
        maximum_associations: at the same time.
        association_seconds: a connection that has not asked for an association by then is closed.
        maximum_waiting: connections that have not asked yet; when there are more, the oldest is closed.
        maximum_pdu: bytes of a protocol data unit that we accept; 0 means no limit (PS3.8 D.1).
        idle_seconds: an association on which nothing comes for this long is aborted, and so is one on which a
            protocol data unit takes longer.
        maximum_instance_megabytes: a larger data set is refused (status 0xC000), its bytes are not kept.
        maximum_instances_per_study: more are refused (status 0xC000).
        minimum_free_megabytes: an instance that would leave less free disk is answered 0xA700, out of resources.
        skipped_modalities: series of which nothing is asked, whatever the routes say; they are kept all the same.
        keep_cached: whether files stay in the system's memory when they are on disk. Memory is then taken anew for
            each, which costs a virtual machine more than reading them once for their job.
    """

    host: ListeningHost = "127.0.0.1"
    port: Port = 11112
    ae_title: AeTitle = "RCMED"
    require_called_ae: bool = False
    tls: ServerTlsSettings | None = None
    peers: tuple[PeerSettings, ...] = ()
    maximum_associations: int = Field(default=16, ge=1)
    association_seconds: float = Field(default=15.0, gt=0)
    maximum_waiting: int = Field(default=64, ge=1)
    maximum_pdu: int = Field(default=131072, ge=0)
    idle_seconds: float = Field(default=60.0, gt=0)
    maximum_instance_megabytes: int = Field(default=2048, ge=1)
    maximum_instances_per_study: int = Field(default=50000, ge=1)
    minimum_free_megabytes: int = Field(default=512, ge=0)
    skipped_modalities: tuple[str, ...] = WITHOUT_IMAGES
    keep_cached: bool = False

    @model_validator(mode="after")
    def _strangers_are_kept_out(self) -> ReceiveSettings:
        mutual = self.tls is not None and self.tls.trusted is not None
        for peer in self.peers:
            if peer.certificates and not mutual:
                raise ValueError(f"peer {peer.name!r} is told by its certificate: that needs tls with trusted")
        placed = bool(self.peers) and all(peer.addresses or peer.certificates for peer in self.peers)
        if not is_loopback(self.host) and not (mutual or placed):
            raise ValueError(
                f"host {self.host} is not loopback: configure tls with trusted, or peers that each have addresses"
            )
        return self


AsymmetricAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class OidcSettings(Settings):
    """OpenID Connect: an identity provider says who may use the web port.

    Attributes:
        issuer: the provider's name, exactly as its tokens say it; https, or http on loopback.
        audience: whom access tokens must be for: us, as the provider calls us.
        algorithms: of signatures that are accepted.
        required_claim: where a token must name `required_value`: a list, or a text of words; dots lead into nested
            claims (`realm_access.roles`). None: whoever gets a token for the audience may.
        required_value: a role, a group, a scope.
        client_id: our name for log-in by browser (authorization code with PKCE); None: browsers can't log in.
        client_secret_file: the secret that belongs to it; None: a public client.
        scopes: that are asked for at log-in; `openid` is always among them.
        session_hours: then a browser must log in again.
        public_url: how browsers reach us, where a proxy stands before us; None: as they asked.
        leeway_seconds: so much clocks may differ.
        timeout_seconds: of a request to the provider.
        tls: to the provider; None: the certificate authorities of the system.
    """

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    algorithms: tuple[AsymmetricAlgorithm, ...] = Field(default=("RS256", "PS256", "ES256"), min_length=1)
    required_claim: str | None = Field(default=None, min_length=1)
    required_value: str | None = Field(default=None, min_length=1)
    client_id: str | None = Field(default=None, min_length=1)
    client_secret_file: ConfiguredFile | None = None
    scopes: tuple[str, ...] = ()
    session_hours: float = Field(default=8.0, gt=0)
    public_url: str | None = Field(default=None, pattern=r"^https?://[^\s/]+(/\S*)?$")
    leeway_seconds: float = Field(default=30.0, ge=0, le=300)
    timeout_seconds: float = Field(default=10.0, gt=0)
    tls: ClientTlsSettings | None = None

    @model_validator(mode="after")
    def _is_sound(self) -> OidcSettings:
        address = urlsplit(self.issuer)
        if address.scheme != "https" and not (address.scheme == "http" and is_loopback(address.hostname or "")):
            raise ValueError("issuer must be an address with https (http on loopback only)")
        if (self.required_claim is None) != (self.required_value is None):
            raise ValueError("required_claim and required_value belong together: give both or none")
        if self.client_secret_file is not None and self.client_id is None:
            raise ValueError("client_secret_file needs client_id")
        return self


class WebSettings(Settings):
    """The status page, the REST API and the metrics.

    Attributes:
        host: address to listen on. Beyond loopback only with TLS, and with a token, OpenID Connect or mutual TLS.
        port: 0 takes a free port.
        host_names: names under which browsers may ask for it, beside loopback's and `host`.
        tls: None: plain HTTP.
        token_file: a file with a secret of at least 32 characters; whoever asks must then bring it, as a bearer token
            or as the password of HTTP basic authentication (browsers). Only `/healthz` is answered without it.
        oidc: an identity provider whose tokens are accepted, beside or in place of the token.
        request_seconds: a connection whose next request's header has not come by then is closed.
        idle_seconds: so is one that brings nothing of a body, or reads nothing of an answer, for so long.
        maximum_connections: when there are more, the one closes that waits longest for its request.
        refresh_seconds: how often pages that change show themselves anew; 0: when they are asked to.
        viewer_url: where a study is opened in a viewer, with `{study}` for its Study Instance UID; None: no links.
        patient_names: whether patients' names are kept in the index, shown and searched; they are taken out of it when
            the gateway starts without.
    """

    enabled: bool = True
    host: ListeningHost = "127.0.0.1"
    port: Port = 8042
    host_names: tuple[str, ...] = ()
    tls: ServerTlsSettings | None = None
    token_file: ConfiguredFile | None = None
    oidc: OidcSettings | None = None
    request_seconds: float = Field(default=15.0, gt=0)
    idle_seconds: float = Field(default=60.0, gt=0)
    maximum_connections: int = Field(default=256, ge=1)
    refresh_seconds: float = Field(default=15.0, ge=0)
    viewer_url: Annotated[str, Field(pattern=r"^https?://[^\s/]+/\S*\{study\}\S*$")] | None = None
    patient_names: bool = False

    @model_validator(mode="after")
    def _strangers_are_kept_out(self) -> WebSettings:
        mutual = self.tls is not None and self.tls.trusted is not None
        known = self.token_file is not None or self.oidc is not None or mutual
        if not is_loopback(self.host) and not (self.tls is not None and known):
            raise ValueError(f"host {self.host} is not loopback: configure tls, and token_file, oidc or tls.trusted")
        return self
