"""Settings of what is kept for how long. Nothing is deleted unless one of them is set."""

from __future__ import annotations

from pydantic import Field, model_validator

from dicom_bridge.settings.base import Settings


class RetentionSettings(Settings):
    """What is deleted when. Of an open study, an unfinished or failed job or an undelivered result nothing ever is.

    Attributes:
        instances_days: the received instances of a study, this long after it was finished: nothing came for it and
            none of its jobs ended since. None: never.
        results_days: what is left of it then: findings, pictures, SEG and SR in the state folder, and its lines on the
            status page. None: never.
        free_megabytes: with less free disk, instances of finished studies are deleted before their time, the study
            first that was finished first. None: never.
        audit_megabytes: a file of the audit trail that is larger is closed and the next one begun.
        audit_days: so is one whose first record is older.
        look_seconds: between two looks at what is to be deleted.
    """

    instances_days: float | None = Field(default=None, ge=0)
    results_days: float | None = Field(default=None, ge=0)
    free_megabytes: int | None = Field(default=None, ge=0)
    audit_megabytes: float | None = Field(default=None, gt=0)
    audit_days: float | None = Field(default=None, gt=0)
    look_seconds: float = Field(default=60.0, gt=0)

    @property
    def deletes(self) -> bool:
        """Whether anything is ever deleted."""
        return self.instances_days is not None or self.free_megabytes is not None

    @model_validator(mode="after")
    def _results_outlive_instances(self) -> RetentionSettings:
        # Without its results a study whose instances are there would be looked at anew when one more came.
        if self.results_days is not None and (self.instances_days is None or self.results_days < self.instances_days):
            raise ValueError(
                "results_days needs instances_days, and can't be fewer: results are deleted after instances"
            )
        return self
