"""Certificates made for one run of the tests: an authority, a stranger's authority, and what they signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Identity:
    """A certificate and its key as PEM files."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        loaded = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return hashlib.sha256(loaded.public_bytes(serialization.Encoding.DER)).hexdigest()


class Authority:
    """Signs certificates for loopback."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = self._sign(name, self._key, is_authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Identity:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        identity = Identity(self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key")
        certificate = self._sign(name, key, is_authority=False)
        identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        return identity

    def _sign(self, name: str, key: rsa.RSAPrivateKey, is_authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )


@dataclass(frozen=True)
class Certificates:
    """Those of a hospital, and those of a stranger.

    Attributes:
        trusted: the hospital's authority.
        gateway, scanner, workstation: signed by it.
        stranger: signed by somebody else.
    """

    trusted: Path
    gateway: Identity
    scanner: Identity
    workstation: Identity
    stranger: Identity


def make_certificates(folder: Path) -> Certificates:
    hospital, elsewhere = Authority(folder, "hospital"), Authority(folder, "elsewhere")
    return Certificates(
        hospital.path,
        hospital.issue("gateway"),
        hospital.issue("scanner"),
        hospital.issue("workstation"),
        elsewhere.issue("stranger"),
    )
