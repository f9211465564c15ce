"""Why a peer did not let us associate, in words that tell what to mend."""

from __future__ import annotations

from pynetdicom.association import Association

# What the reasons of an A-ASSOCIATE-RJ (PS3.8 9.3.4) mean to whoever set the peer up: (source, diagnostic).
_MENDS: dict[tuple[int | None, int | None], str] = {
    (1, 3): "it does not know our AE title {calling}: add it there",
    (1, 7): "it is not called {called}: mend called_ae",
}


def why_not_associated(association: Association) -> str:
    """One clause about the peer, of an association that was asked for and is not established."""
    answer = association.acceptor.primitive
    if not association.is_rejected or answer is None:
        return "does not answer"
    try:
        cause = (answer.result_source, answer.diagnostic)
        reason = f"{answer.source_str.lower()}: {answer.reason_str.lower()}"
    except (AttributeError, ValueError, KeyError):  # numbers that the standard does not have
        return "rejected the association without a reason that the standard has"
    names = {"calling": association.requestor.ae_title, "called": association.acceptor.ae_title}
    mend = _MENDS.get(cause, "").format(**names)
    return f"rejected the association ({reason}{'; ' if mend else ''}{mend})"
