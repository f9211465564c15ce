"""`rcmed send`: DICOM files to any application entity by C-STORE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def send(
    folder: Annotated[Path, typer.Argument(help="A DICOM file, or a folder with DICOM files anywhere below it.")],
    to: Annotated[str, typer.Option(help="HOST:PORT of the peer.")] = "127.0.0.1:11112",
    called_ae: Annotated[str, typer.Option(help="AE title of the peer.")] = "RCMED",
    calling_ae: Annotated[str, typer.Option(help="Our AE title.")] = "RCMED-SEND",
    trusted: Annotated[
        Path | None, typer.Option(help="PEM with the authorities that may have signed the peer's certificate: use TLS.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM, our certificate, where the peer asks for one.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM, its private key.")] = None,
) -> None:
    """Send DICOM files to the gateway or to any PACS, each in the transfer syntax it is stored in."""
    from dicom_bridge.delivery.dimse.sending import find_dicom_files, send_files
    from dicom_bridge.security.tls import client_context
    from dicom_bridge.settings import ClientTlsSettings
    from rcmed.errors import ConfigurationError

    host, _, port = to.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"--to {to}: must be HOST:PORT, for example 127.0.0.1:11112")
    if (certificate is None) != (key is None) or (certificate is not None and trusted is None):
        raise ConfigurationError("--certificate and --key go together, and with --trusted")
    tls = None
    if trusted is not None:
        tls_settings = ClientTlsSettings(trusted=trusted, certificate=certificate, key=key)
        tls = client_context(tls_settings, "the command's TLS options")
    paths = find_dicom_files(folder)
    send_files(paths, host, int(port), called_ae, calling_ae, tls)
    typer.echo(f"{len(paths)} instances sent to {called_ae} at {to}")
