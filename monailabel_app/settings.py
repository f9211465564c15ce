"""The annotation server's settings: typed, frozen, and the one place of every default.

Each can be given in the environment: RCMED_ANNOTATE_PORT=8001, RCMED_ANNOTATE_AUTHENTICATION__MODE=oidc.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rcmed.errors import ConfigurationError
from rcmed.modality import Modality

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PublicKeyAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
SHORTEST_SECRET = 32
"""Bytes of a shared secret; RFC 7518 3.2 asks for as many as the hash of HS256 has."""


class AuthenticationSettings(BaseModel):
    """Who may use the server.

    Attributes:
        mode: "off" (for loopback), "jwt" (tokens signed with a key given here) or "oidc" (keys of a provider).
        secret: mode jwt: shared secret of HS256, at least 32 bytes.
        public_key: mode jwt: PEM file with the public key, in place of a secret.
        issuer: mode oidc: the provider's address, below which `/.well-known/openid-configuration` lies; in mode jwt
            the `iss` that tokens must have, where given.
        audience: the `aud` that tokens must have, where given.
        algorithms: of public keys that are accepted; a token never chooses another. A secret is HS256 only.
        client_id: our name at the provider, used where a viewer asks for a token with user and password.
        username_claim, roles_claim: where a token tells them; dots lead into nested claims.
        timeout_seconds: of requests to the provider.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["off", "jwt", "oidc"] = "off"
    secret: SecretStr | None = None
    public_key: Path | None = None
    issuer: str | None = None
    audience: str | None = None
    algorithms: tuple[PublicKeyAlgorithm, ...] = ("RS256", "ES256")
    client_id: str = "monailabel-app"
    username_claim: str = "preferred_username"
    roles_claim: str = "realm_access.roles"
    timeout_seconds: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _has_its_keys(self) -> AuthenticationSettings:
        if self.mode == "jwt" and (self.secret is None) == (self.public_key is None):
            raise ValueError("mode jwt needs either a secret or a public_key")
        if self.secret is not None and len(self.secret.get_secret_value().encode()) < SHORTEST_SECRET:
            raise ValueError(f"the secret must have at least {SHORTEST_SECRET} bytes")
        if self.mode == "oidc":
            address = urlsplit(self.issuer or "")
            if address.scheme != "https" and not (address.scheme == "http" and address.hostname in LOOPBACK):
                raise ValueError("mode oidc needs an issuer with https (http on loopback only)")
        if not self.algorithms:
            raise ValueError("name at least one algorithm")
        return self


class AnnotateSettings(BaseSettings):
    """Everything that can be configured.

    Attributes:
        studies: a folder of images, or the address of a DICOMweb server.
        state: folder for the app's files, sessions, trained versions; made where it is missing.
        host: address to listen on. Beyond loopback only with authentication, or with `allow_anonymous`.
        allow_anonymous: listen beyond loopback without authentication, for a proxy in front that authenticates.
        port: 0 takes a free port. OHIF's panel asks port 8000 unless told otherwise.
        model, device: as of `rcmed find`.
        modality: of files that do not say it themselves.
        references: folder of corrections that the site vouches for (`rcmed.data.collected`): they guard promotions.
        cache_megabytes: of encoded images that are kept, so that further prompts on an image are fast.
        image_cache_megabytes: of read images that are kept.
        waiting_infers: that may wait while one runs; the next is answered 429.
        upload_megabytes: largest body of a request; a larger one is answered 413.
        session_minutes: a session that is not used for so long is forgotten, also over a restart.
        cors_origins: beside loopback origins, those whose pages may use the server.
        allowed_hosts: beside loopback and `host`, the names by which the server may be addressed.
        authentication: see there. How a DICOMweb peer is addressed, `monailabel_app.datastores` says.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="RCMED_ANNOTATE_", env_nested_delimiter="__"
    )

    studies: str = "studies"
    state: Path = Path("annotate-state")
    host: str = Field(default="127.0.0.1", min_length=1)
    allow_anonymous: bool = False
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    model: str = Field(default="small", min_length=1)
    device: Literal["auto", "cpu", "cuda", "onnx"] = "auto"
    modality: Modality | None = None
    references: Path | None = None
    cache_megabytes: int = Field(default=1024, ge=0)
    image_cache_megabytes: int = Field(default=512, ge=0)
    waiting_infers: int = Field(default=8, ge=0)
    upload_megabytes: int = Field(default=2048, ge=1)
    session_minutes: float = Field(default=60.0, gt=0)
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    authentication: AuthenticationSettings = AuthenticationSettings()

    @model_validator(mode="after")
    def _is_not_open_to_all(self) -> AnnotateSettings:
        if self.host not in LOOPBACK and self.authentication.mode == "off" and not self.allow_anonymous:
            raise ValueError(
                f"host {self.host} is not loopback: configure authentication, or set allow_anonymous where a proxy "
                "in front authenticates"
            )
        return self

    @property
    def is_remote(self) -> bool:
        """Whether the studies live on a DICOMweb server."""
        return self.studies.startswith(("http://", "https://"))

    @classmethod
    def of(cls, **given: object) -> AnnotateSettings:
        """Settings from what is given, the environment, and defaults, in this order; None counts as not given.

        Raises:
            ConfigurationError: one line that names the key and the mend.
        """
        try:
            return cls(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            raise ConfigurationError(_one_line(error)) from None
        except ValueError as error:  # an unreadable value in the environment
            raise ConfigurationError(" ".join(str(error).split())) from None

    def save(self, path: Path) -> None:
        """Write for child processes of the server, readable by its user only; what concerns clients is left out."""
        content = self.model_dump_json(exclude={"authentication", "allow_anonymous", "host"}, indent=2)
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(content)

    @classmethod
    def load(cls, path: Path) -> AnnotateSettings:
        """Read what `save` wrote."""
        return cls.of(**json.loads(path.read_text()))


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"annotate: {key}: {message}" if key else f"annotate: {message}"
