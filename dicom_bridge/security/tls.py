"""TLS contexts for the ports that we listen on and for the peers that we call (PS3.15 B.12: TLS 1.2 or later)."""

from __future__ import annotations

import hashlib
import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509

from dicom_bridge.settings.network import ClientTlsSettings, ServerTlsSettings
from rcmed.errors import ConfigurationError


def server_context(settings: ServerTlsSettings, section: str) -> ssl.SSLContext:
    """The context of a port that we listen on; with `trusted` every peer must show a certificate.

    Args:
        settings: names the files.
        section: of the configuration, for the text of errors, for example `receive.tls`.
    Raises:
        ConfigurationError: a file can't be read or holds something else; the line names key and file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_own(context, settings.certificate, settings.key, section)
    if settings.trusted is not None:
        _load_trusted(context, settings.trusted, section)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: ClientTlsSettings, section: str) -> ssl.SSLContext:
    """The context for calling a peer, whose certificate is always verified.

    Raises:
        ConfigurationError: as `server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = settings.check_host
    if settings.trusted is None:
        context.load_default_certs()
    else:
        _load_trusted(context, settings.trusted, section)
    if settings.certificate is not None and settings.key is not None:
        _load_own(context, settings.certificate, settings.key, section)
    return context


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER), as `openssl x509 -fingerprint -sha256` shows it, without colons, lower case."""
    return hashlib.sha256(certificate).hexdigest()


def expiry(certificate: Path) -> datetime:
    """Until when the first certificate of a PEM file is valid, in UTC.

    Raises:
        ConfigurationError: it holds none.
    """
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        raise ConfigurationError(f"{certificate} holds no PEM certificate") from None


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path, section: str) -> None:
    _require_readable(certificate, f"{section}.certificate")
    _require_readable(key, f"{section}.key")
    try:
        # The password callback keeps OpenSSL from asking on the terminal when the key is encrypted.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigurationError(
            f"{section}: {certificate} and {key} are not a PEM certificate and its unencrypted key ({reason})"
        ) from None


def _load_trusted(context: ssl.SSLContext, trusted: Path, section: str) -> None:
    _require_readable(trusted, f"{section}.trusted")
    try:
        context.load_verify_locations(cafile=trusted)
    except ssl.SSLError as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigurationError(f"{section}.trusted: {trusted} holds no PEM certificates ({reason})") from None


def _require_readable(path: Path, key: str) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{key}: {path} can't be read ({error.strerror}): give the path of a PEM file"
        ) from None
