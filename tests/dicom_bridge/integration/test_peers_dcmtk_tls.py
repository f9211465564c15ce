"""DCMTK over TLS, in both directions, with certificates of one authority and of another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pydicom
import pytest

from dicom_bridge.events.audit import verify
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.store.states import JobState

pytestmark = pytest.mark.integration
PATIENCE = 120.0


def succeeds(path: str, *arguments: object) -> bool:
    return subprocess.run([path, *map(str, arguments)], capture_output=True, timeout=PATIENCE).returncode == 0


def with_tls(identity: Any, trusted: Any) -> list[object]:
    return ["+tls", identity.key, identity.certificate, "+cf", trusted, "--call", "RCMED", "--aetitle", "CT01"]


def test_a_study_goes_in_and_comes_out_over_mutual_tls(
    start_gateway: Callable[..., Gateway],
    secured_storescp: Any,
    tool: Callable[[str, str], str],
    certificates: Any,
    make_ct_series: Any,
) -> None:
    own = certificates.gateway
    destination = {
        **secured_storescp.destination,
        "tls": {"trusted": certificates.trusted, "certificate": own.certificate, "key": own.key},
    }
    gateway = start_gateway(
        destination,
        receive={
            "port": 0,
            "minimum_free_megabytes": 0,
            "tls": {"certificate": own.certificate, "key": own.key, "trusted": certificates.trusted},
            "peers": [{"name": "scanner", "calling_ae": ["CT01"], "certificates": [certificates.scanner.fingerprint]}],
        },
    )
    echoscu, storescu = tool("echoscu", "dcmtk"), tool("storescu", "dcmtk")
    address = ("127.0.0.1", gateway.ports.dicom)
    files = make_ct_series(3)
    known = with_tls(certificates.scanner, certificates.trusted)
    assert succeeds(echoscu, *known, *address)
    assert succeeds(storescu, *known, *address, *files)
    assert not succeeds(echoscu, *with_tls(certificates.workstation, certificates.trusted), *address)  # no known peer
    assert not succeeds(echoscu, *with_tls(certificates.stranger, certificates.trusted), "-ic", *address)
    assert not succeeds(echoscu, "+tla", "-ic", "--call", "RCMED", *address)  # no certificate at all
    assert not succeeds(echoscu, "--call", "RCMED", "--timeout", 5, *address)  # no TLS
    (job,) = gateway.wait_for_study(pydicom.dcmread(files[0]).StudyInstanceUID, PATIENCE)
    assert job.state == JobState.DONE
    returned = sorted(pydicom.dcmread(file).Modality for file in secured_storescp.folder.iterdir())
    assert returned == ["SEG", "SR"]
    assert verify(gateway.root / "audit.jsonl") >= 4
