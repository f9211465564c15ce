"""Known peers: who may associate, by AE titles, address and certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address, ip_address, ip_network

from dicom_bridge.settings.network import PeerSettings


@dataclass(frozen=True)
class Caller:
    """Who asks for an association.

    Attributes:
        calling_ae, called_ae: as the request says, without padding.
        address: where the connection comes from.
        certificate: SHA-256 fingerprint of the certificate that the peer showed; None without mutual TLS.
    """

    calling_ae: str
    called_ae: str
    address: str
    certificate: str | None = None


class Refusal(Enum):
    """Why an association is rejected: (result, source, diagnostic) of the A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    CALLING_AE_NOT_KNOWN = (1, 1, 3)
    CALLED_AE_NOT_KNOWN = (1, 1, 7)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
    NO_REASON = (1, 1, 1)

    @property
    def words(self) -> str:
        """For logs."""
        return self.name.lower().replace("_", " ").replace(" ae ", " AE title ")


@dataclass(frozen=True)
class Verdict:
    """Either a peer's name, or why the caller is none; both None where no peers are configured."""

    peer: str | None = None
    refusal: Refusal | None = None


class KnownPeers:
    """The peers of the configuration. Without any, whoever reaches the port may associate."""

    def __init__(self, peers: Sequence[PeerSettings], our_ae: str, require_called_ae: bool = False) -> None:
        """Prepare.

        Args:
            peers: each list of a peer that is not empty must match.
            our_ae: our AE title.
            require_called_ae: whether callers must call `our_ae`; a peer's `called_ae` stand beside it.
        """
        self._peers = tuple(peers)
        self._our_ae = our_ae
        self._require_called_ae = require_called_ae

    def may_connect(self, address: str) -> bool:
        """Whether any peer may come from an address; asked before a byte is read."""
        return not self._peers or any(_is_in(address, peer.addresses) for peer in self._peers)

    def judge(self, caller: Caller) -> Verdict:
        """Which peer asks, or why it may not associate."""
        if not self._peers:
            wrong = self._require_called_ae and caller.called_ae != self._our_ae
            return Verdict(refusal=Refusal.CALLED_AE_NOT_KNOWN if wrong else None)
        known = [peer for peer in self._peers if self._matches(peer, caller)]
        if not known:
            return Verdict(refusal=Refusal.CALLING_AE_NOT_KNOWN)
        for peer in known:
            if self._may_call(peer, caller.called_ae):
                return Verdict(peer=peer.name)
        return Verdict(refusal=Refusal.CALLED_AE_NOT_KNOWN)

    def _may_call(self, peer: PeerSettings, called_ae: str) -> bool:
        if called_ae in peer.called_ae:
            return True
        if self._require_called_ae:
            return called_ae == self._our_ae
        return not peer.called_ae

    @staticmethod
    def _matches(peer: PeerSettings, caller: Caller) -> bool:
        if peer.calling_ae and caller.calling_ae not in peer.calling_ae:
            return False
        if peer.certificates and caller.certificate not in peer.certificates:
            return False
        return _is_in(caller.address, peer.addresses)


def _is_in(address: str, networks: Sequence[str]) -> bool:
    if not networks:
        return True
    place = ip_address(address)
    # On a port that listens on IPv6, callers by IPv4 show as ::ffff:a.b.c.d.
    if isinstance(place, IPv6Address) and place.ipv4_mapped is not None:
        place = place.ipv4_mapped
    return any(place in ip_network(network) for network in networks)
