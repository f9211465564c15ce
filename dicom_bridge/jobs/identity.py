"""What makes two jobs the same job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence


def job_identity(
    *,
    study_uid: str,
    series_uid: str,
    instance_uids: Iterable[str],
    route: str,
    weights_sha256: str,
    prompts: Sequence[str],
) -> str:
    """The id of a job: SHA-256, 64 hexadecimal digits, over everything that its results depend on.

    The order in which instances arrived does not count; another instance, another route, other weights or other
    prompts make another job, whose results get UIDs of their own.
    """
    content = [study_uid, series_uid, sorted(set(instance_uids)), route, weights_sha256, list(prompts)]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()
