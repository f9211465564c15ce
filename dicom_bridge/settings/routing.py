"""Settings of where results go: destinations, the routes that name them, and patience with those that are sick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from dicom_bridge.results.kinds import MessageKind, ResultKind
from dicom_bridge.settings.base import AeTitle, ConfiguredFile, MisplacedError, PeerPort, Settings
from dicom_bridge.settings.network import ClientTlsSettings
from dicom_bridge.studies.routing import Condition, Route, RouteField, RouteOperator


class DeliverySettings(Settings):
    """Patience with a destination that does not answer.

    Attributes:
        maximum_attempts: then the delivery is given up and said so.
        first_wait_seconds: between the first and the second attempt; doubles from then on.
        maximum_wait_seconds: no wait is longer.
        timeout_seconds: for connecting and for each answer.
        commitment_seconds: how long a report of storage commitment may take.
    """

    maximum_attempts: int = Field(default=200, ge=1)
    first_wait_seconds: float = Field(default=2.0, gt=0)
    maximum_wait_seconds: float = Field(default=300.0, gt=0)
    timeout_seconds: float = Field(default=30.0, gt=0)
    commitment_seconds: float = Field(default=30.0, gt=0)

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed."""
        return min(self.first_wait_seconds * 2.0 ** min(attempt - 1, 30), self.maximum_wait_seconds)


class DestinationBase(Settings):
    """What holds for every destination.

    Attributes:
        takes: what it gets of a route's results: the DICOM objects, unless it says otherwise.
    """

    takes: ClassVar[tuple[ResultKind | MessageKind, ...]] = tuple(ResultKind)


class CStoreDestination(DestinationBase):
    """An application entity that takes results by C-STORE.

    Attributes:
        host, port, called_ae: where it listens, and its AE title.
        calling_ae: our AE title; a peer that reports its storage commitment looks us up under it.
        tls: None: plain DICOM.
        commitment: `auto` asks for storage commitment where the peer offers it, else looks the objects up by C-FIND
            where it offers that; `required` takes nothing less than commitment; `off` takes the C-STORE's status.
    """

    type: Literal["c_store"]
    host: str = Field(min_length=1)
    port: PeerPort
    called_ae: AeTitle
    calling_ae: AeTitle = "RCMED"
    tls: ClientTlsSettings | None = None
    commitment: Literal["auto", "required", "off"] = "auto"


class FolderDestination(DestinationBase):
    """A folder; relative paths are taken from the state folder. Files lie in `<study>/<SOP Instance UID>.dcm`."""

    takes: ClassVar[tuple[ResultKind | MessageKind, ...]] = (*ResultKind, *MessageKind)
    type: Literal["folder"]
    path: Path


Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]


class StowDestination(DestinationBase):
    """A DICOMweb server that takes results by STOW-RS and is asked for them by QIDO-RS (PS3.18 10.5 and 10.6).

    Attributes:
        url: its base, for example `https://pacs.hospital.example/dicom-web`.
        token_file: a bearer token; or
        user, password_file: HTTP basic authentication.
        tls: for https; None: the certificate authorities of the system.
    """

    type: Literal["stow"]
    url: Url
    token_file: ConfiguredFile | None = None
    user: str | None = None
    password_file: ConfiguredFile | None = None
    tls: ClientTlsSettings | None = None


class OrthancDestination(DestinationBase):
    """An Orthanc server that takes results by its REST API, and is asked for them there.

    Attributes:
        url: of its REST API, for example `http://orthanc:8042`.
        user, password_file: HTTP basic authentication.
        tls: for https; None: the certificate authorities of the system.
    """

    type: Literal["orthanc"]
    url: Url
    user: str | None = None
    password_file: ConfiguredFile | None = None
    tls: ClientTlsSettings | None = None


# What parts an HL7 v2 message may not stand in its header, nor a control character.
Hl7Name = Annotated[str, Field(max_length=227, pattern=r"^[^|~\\&\x00-\x1f\x7f]*$")]


class MllpDestination(DestinationBase):
    """An information system that takes HL7 v2 messages over MLLP; of a route's results it gets `hl7`.

    Attributes:
        host, port: where it listens.
        sending_application, sending_facility: our names (MSH-3, MSH-4).
        receiving_application, receiving_facility: its names (MSH-5, MSH-6).
        processing: P of production, T of training, D of debugging (MSH-11).
        tls: None: plain MLLP.
    """

    takes: ClassVar[tuple[ResultKind | MessageKind, ...]] = (MessageKind.HL7,)
    type: Literal["mllp"]
    host: str = Field(min_length=1)
    port: PeerPort
    sending_application: Hl7Name = "RCMED"
    sending_facility: Hl7Name = ""
    receiving_application: Hl7Name = ""
    receiving_facility: Hl7Name = ""
    processing: Literal["P", "T", "D"] = "P"
    tls: ClientTlsSettings | None = None


class FhirDestination(DestinationBase):
    """A FHIR R4 server that takes transactions; of a route's results it gets `fhir`.

    Attributes:
        url: its base, for example `https://ris.hospital.example/fhir`.
        token_file: a bearer token; or
        user, password_file: HTTP basic authentication.
        tls: for https; None: the certificate authorities of the system.
    """

    takes: ClassVar[tuple[ResultKind | MessageKind, ...]] = (MessageKind.FHIR,)
    type: Literal["fhir"]
    url: Url
    token_file: ConfiguredFile | None = None
    user: str | None = None
    password_file: ConfiguredFile | None = None
    tls: ClientTlsSettings | None = None


AnyDestination = (
    CStoreDestination | StowDestination | OrthancDestination | FolderDestination | MllpDestination | FhirDestination
)
DestinationSettings = Annotated[AnyDestination, Field(discriminator="type")]


def _results_folder() -> dict[str, AnyDestination]:
    return {"results": FolderDestination(type="folder", path=Path("results"))}


# What each kind of image is asked, by modality and body part: nothing is asked of a series that may show anything.
_ROUTES: dict[str, tuple[tuple[tuple[str, str, str | tuple[str, ...]], ...], tuple[str, ...]]] = {
    "abdomen CT": (
        (
            ("modality", "equals", "CT"),
            ("body_part", "one_of", ("ABDOMEN", "ABDOMENPELVIS", "CHESTABDOMEN", "CHESTABDPELVIS", "LIVER", "KIDNEY")),
        ),
        ("liver", "left kidney", "right kidney"),
    ),
    "brain MR": (
        (
            ("modality", "equals", "MR"),
            ("body_part", "one_of", ("HEAD", "BRAIN", "SKULL")),
        ),
        ("brain tumor", "multiple sclerosis lesion", "hippocampus"),
    ),
    "spine MR": (
        (
            ("modality", "equals", "MR"),
            ("body_part", "one_of", ("SPINE", "CSPINE", "TSPINE", "LSPINE", "LSSPINE", "TLSPINE")),
        ),
        ("vertebra", "intervertebral disc", "spinal canal", "spinal cord"),
    ),
    "chest radiograph": (
        (
            ("modality", "one_of", ("CR", "DX")),
            ("body_part", "one_of", ("CHEST", "THORAX", "LUNG")),
        ),
        ("left lung", "right lung"),
    ),
    "breast ultrasound": (
        (
            ("modality", "equals", "US"),
            ("body_part", "equals", "BREAST"),
        ),
        ("breast tumor",),
    ),
    "fundus photograph": (
        (("modality", "equals", "OP"),),
        ("optic disc", "retinal vessel", "hard exudate", "retinal haemorrhage", "microaneurysm"),
    ),
    "slide": ((("modality", "equals", "SM"),), ("nuclei",)),
}


def _routes() -> tuple[Route, ...]:
    return tuple(
        Route(
            name=name,
            conditions=tuple(
                Condition(field=RouteField(field), operator=RouteOperator(operator), value=value)
                for field, operator, value in conditions
            ),
            prompts=prompts,
            destinations=("results",),
        )
        for name, (conditions, prompts) in _ROUTES.items()
    )


class RoutingSettings(Settings):
    """Routes and the destinations they name; no series is asked for everything unless a route says so."""

    routes: tuple[Route, ...] = Field(default_factory=_routes)
    destinations: dict[str, DestinationSettings] = Field(default_factory=_results_folder)

    @field_validator("destinations")
    @classmethod
    def _names_are_plain(cls, value: dict[str, DestinationSettings]) -> dict[str, DestinationSettings]:
        for name in value:
            if not name or len(name) > 64 or not all(c.isalnum() or c in "-_." for c in name):
                text = f"the destination name {name!r} may hold letters, digits, '-', '_' and '.' only"
                raise MisplacedError([((name,), text)])
        return value

    @model_validator(mode="after")
    def _routes_are_consistent(self) -> RoutingSettings:
        mistakes: list[tuple[tuple[str | int, ...], str]] = []
        first: dict[str, int] = {}
        for number, route in enumerate(self.routes):
            if first.setdefault(route.name, number) != number:
                text = f"two routes are called {route.name!r}; give each its own name"
                mistakes.append((("routes", number, "name"), text))
            for place, destination in enumerate(route.destinations):
                if destination not in self.destinations:
                    known = ", ".join(sorted(self.destinations)) or "none"
                    text = f"route {route.name!r} names destination {destination!r}, known are: {known}"
                    mistakes.append((("routes", number, "destinations", place), text))
            mistakes += self._mismatches(number, route)
        if mistakes:
            raise MisplacedError(mistakes)
        return self

    def _mismatches(self, number: int, route: Route) -> list[tuple[tuple[str | int, ...], str]]:
        """Destinations that take nothing of a route's results, and results that none of its destinations takes."""
        known = {name: self.destinations[name] for name in route.destinations if name in self.destinations}
        mistakes: list[tuple[tuple[str | int, ...], str]] = []
        for place, name in enumerate(route.destinations):
            if name in known and not set(known[name].takes) & set(route.results):
                takes = known[name].takes
                wanted = takes[0].value if len(takes) == 1 else "one of seg, sr, ..."
                text = f"destination {name!r} takes nothing of route {route.name!r}: add {wanted} to its results"
                mistakes.append((("routes", number, "destinations", place), text))
        for place, kind in enumerate(route.results):
            if len(known) == len(route.destinations) and not any(kind in one.takes for one in known.values()):
                text = f"no destination of route {route.name!r} takes {kind.value}: name one that does"
                mistakes.append((("routes", number, "results", place), text))
        return mistakes
