"""Who is a known peer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_bridge.security.peers import Caller, KnownPeers, Refusal
from dicom_bridge.settings import PeerSettings

FINGERPRINT = "ab" * 32
CT = {"name": "CT", "calling_ae": ["CT01"], "addresses": ["10.1.3.0/24", "fd00::/8"]}
TOLD = {"name": "told", "calling_ae": ["WS01"], "certificates": [":".join(["AB"] * 32)]}


def known(*peers: dict[str, Any], require_called_ae: bool = False) -> KnownPeers:
    return KnownPeers([PeerSettings.model_validate(peer) for peer in peers], "RCMED", require_called_ae)


@pytest.mark.parametrize(
    ("caller", "peer", "refusal"),
    [
        (Caller("CT01", "RCMED", "10.1.3.7"), "CT", None),
        (Caller("CT01", "RCMED", "::ffff:10.1.3.7"), "CT", None),
        (Caller("CT01", "RCMED", "fd00::7"), "CT", None),
        (Caller("CT01", "RCMED", "10.1.4.7"), None, Refusal.CALLING_AE_NOT_KNOWN),
        (Caller("CT02", "RCMED", "10.1.3.7"), None, Refusal.CALLING_AE_NOT_KNOWN),
        (Caller("WS01", "RCMED", "10.9.9.9", FINGERPRINT), "told", None),
        (Caller("WS01", "RCMED", "10.9.9.9", "cd" * 32), None, Refusal.CALLING_AE_NOT_KNOWN),
        (Caller("WS01", "RCMED", "10.9.9.9"), None, Refusal.CALLING_AE_NOT_KNOWN),
    ],
)
def test_every_list_that_is_given_must_match(caller: Caller, peer: str | None, refusal: Refusal | None) -> None:
    verdict = known(CT, TOLD).judge(caller)
    assert (verdict.peer, verdict.refusal) == (peer, refusal)


def test_without_peers_whoever_reaches_the_port_may_associate() -> None:
    peers = known()
    assert peers.may_connect("203.0.113.1")
    assert peers.judge(Caller("X", "Y", "203.0.113.1")).refusal is None
    strict = known(require_called_ae=True)
    assert strict.judge(Caller("X", "Y", "203.0.113.1")).refusal == Refusal.CALLED_AE_NOT_KNOWN
    assert strict.judge(Caller("X", "RCMED", "203.0.113.1")).refusal is None


def test_a_peer_may_have_called_titles_of_its_own() -> None:
    peers = known({**CT, "called_ae": ["LIVER"]}, require_called_ae=True)
    for called, refusal in (("LIVER", None), ("RCMED", None), ("OTHER", Refusal.CALLED_AE_NOT_KNOWN)):
        assert peers.judge(Caller("CT01", called, "10.1.3.7")).refusal == refusal
    only = known({**CT, "called_ae": ["LIVER"]})
    assert only.judge(Caller("CT01", "RCMED", "10.1.3.7")).refusal == Refusal.CALLED_AE_NOT_KNOWN


@given(st.ip_addresses())
def test_who_may_associate_may_connect(address: Any) -> None:
    peers = known(CT, {"name": "odd", "calling_ae": ["CT01"], "addresses": ["128.0.0.0/1", "8000::/1"]})
    if peers.judge(Caller("CT01", "RCMED", str(address))).refusal is None:
        assert peers.may_connect(str(address))
    else:
        assert not peers.may_connect(str(address))
