"""Names that their makers may take away without notice; pyproject.toml bounds the versions that have them."""

from __future__ import annotations

from dbos import DBOS
from highdicom.seg import Segmentation
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from uvicorn.protocols.http.h11_impl import H11Protocol


def test_pynetdicom() -> None:
    switches = (_config.STORE_SEND_CHUNKED_DATASET, _config.UNRESTRICTED_STORAGE_SERVICE)
    assert all(isinstance(switch, bool) for switch in switches)
    assert _config.LOG_HANDLER_LEVEL in ("none", "standard")
    association = Association(AE(), "acceptor")
    assert association._accepted_cx == {} and isinstance(association.dul, DULServiceProvider)
    assert callable(association.dul._idle_timer.restart) and association.dul.socket is None
    assert association._reactor_checkpoint.is_set()


def test_dbos() -> None:
    assert callable(DBOS._recover_pending_workflows)


def test_highdicom() -> None:
    assert callable(Segmentation._check_and_cast_pixel_array) and callable(Segmentation._get_segment_pixel_array)


def test_uvicorn() -> None:
    transport = {"connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing"}
    assert transport | {"handle_events", "on_response_complete"} <= set(dir(H11Protocol))
