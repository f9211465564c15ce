"""From the injection of a tracer to the time that PET pixels were decayed to: times, time zones and dates together."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone

from pydicom import Dataset
from pydicom.valuerep import DA, DT, TM

from dicom_bridge.series.headers.instance import shown, text


class NoUptakeError(Exception):
    """Why no SUV can be computed; the text names the tag."""


# A tracer of short life is imaged the same morning; more is a wrong clock, date or time zone.
_LONGEST_UPTAKE = timedelta(hours=6)
_SHORT_LIVED = timedelta(hours=12)
# Carbon 11 is imaged up to 90 minutes after the injection; of no tracer pictures are made later.
_MOST_HALF_LIVES = 4.5
# A whole body is scanned within the hour, a dynamic series in two.
_LONGEST_SERIES = timedelta(hours=4)
# Two clocks and a rounding to the minute.
_SAME_TIME = timedelta(seconds=61)
# One of two times may be cut to whole seconds.
_ROUNDING = timedelta(seconds=1)
_DAY = timedelta(days=1)
_START_TIME = "Radiopharmaceutical Start Time (0018,1072)"
_START_DATETIME = "Radiopharmaceutical Start DateTime (0018,1078)"
_ZONE = "Timezone Offset From UTC (0008,0201)"
_SERIES = "Series Date or Time (0008,0021), (0008,0031)"


def uptake_time(header: Dataset, tracer: Dataset, half_life: float) -> timedelta:
    """From the injection to the time that the pixels of a series with Decay Correction START were decayed to.

    Args:
        header: of an instance of the series.
        tracer: the item of Radiopharmaceutical Information Sequence (0054,0016).
        half_life: in seconds.
    Raises:
        NoUptakeError: a time is missing, is not told to the minute, or does not go with another.
    """
    scanned = _series_begin(header)
    injected = _injection(header, tracer, scanned)
    uptake = scanned - injected
    lives = uptake.total_seconds() / half_life
    is_short_lived = half_life < _SHORT_LIVED.total_seconds()
    if uptake < timedelta(0) or lives > _MOST_HALF_LIVES or (is_short_lived and uptake > _LONGEST_UPTAKE):
        when = "after the series was begun" if uptake < timedelta(0) else f"{uptake} before the series was begun"
        raise NoUptakeError(
            f"{_START_DATETIME} or Time (0018,1072) does not go with {_SERIES}: an injection {when}, "
            f"{abs(lives):.1f} half-lives (0018,1075)"
        )
    if uptake < _ROUNDING and "DYNAMIC" not in text(header, "SeriesType") and "GATED" not in text(header, "SeriesType"):
        raise NoUptakeError(f"{_START_TIME} is that of the series itself, (0008,0031); give the time of the injection")
    return uptake


def _series_begin(header: Dataset) -> datetime:
    scanned = _moment(header, "SeriesDate", "SeriesTime")
    if scanned is None:
        raise NoUptakeError(f"{_SERIES} is missing or no time to the minute")
    acquired = _moment(header, "AcquisitionDate", "AcquisitionTime")
    if acquired is not None and acquired < scanned - _ROUNDING:
        # Someone has written the series anew, later: its time no longer tells when it was begun.
        raise NoUptakeError("Series Time (0008,0031) is later than Acquisition Time (0008,0032)")
    if acquired is not None and acquired > scanned + _LONGEST_SERIES:
        raise NoUptakeError(
            f"Acquisition Date or Time (0008,0022), (0008,0032) is {acquired - scanned} after {_SERIES}"
        )
    return scanned


def _injection(header: Dataset, tracer: Dataset, scanned: datetime) -> datetime:
    """The time of the injection by the clock of the series."""
    alone = _time(text(tracer, "RadiopharmaceuticalStartTime"))
    whole = _date_and_time(text(tracer, "RadiopharmaceuticalStartDateTime"))
    if whole is None:
        if alone is None:
            raise NoUptakeError(f"{_START_TIME} is missing or no time to the minute")
        injected = datetime.combine(scanned.date(), alone)
        return injected - _DAY if injected > scanned else injected  # over midnight: the tag has no date
    if whole.tzinfo is not None:
        zone = _zone(header)
        if zone is not None:
            whole = whole.astimezone(zone)
        elif alone is None or not _is_same_time(whole.time(), alone):
            raise NoUptakeError(
                f"{_START_DATETIME} has a time zone and the series none: {_ZONE} is missing or no offset"
            )
        whole = whole.replace(tzinfo=None)
    if alone is not None and not _is_same_time(whole.time(), alone):
        raise NoUptakeError(
            f"{_START_DATETIME} is {whole:%H:%M:%S} by the clock of the series, {_START_TIME} is {alone}"
        )
    return whole


def _is_same_time(first: time, second: time) -> bool:
    apart = abs(datetime.combine(date.min, first) - datetime.combine(date.min, second))
    return min(apart, _DAY - apart) <= _SAME_TIME


def _zone(header: Dataset) -> timezone | None:
    """Timezone Offset From UTC (0008,0201), of all dates and times of an instance; None where absent or no offset."""
    found = re.fullmatch(r"([+-])(\d{2})([0-5]\d)", text(header, "TimezoneOffsetFromUTC"))
    if not found:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3])) * (-1 if found[1] == "-" else 1)
    return timezone(offset) if timedelta(hours=-12) <= offset <= timedelta(hours=14) else None


def _moment(header: Dataset, day: str, clock: str) -> datetime | None:
    clock_time = _time(text(header, clock))
    try:
        return None if clock_time is None else datetime.combine(DA(text(header, day)), clock_time)
    except (TypeError, ValueError, AttributeError):
        return None


def _time(value: str) -> time | None:
    """A TM that tells hours and minutes; None where it is absent, damaged or of the hour alone."""
    if not re.match(r"\d{4}", value):
        return None
    try:
        found = TM(value)
    except (TypeError, ValueError, AttributeError):
        return None
    return None if found is None else time(found.hour, found.minute, found.second, found.microsecond)


def _date_and_time(value: str) -> datetime | None:
    """A DT that tells hours and minutes, with its offset where it has one; None where it does not.

    Raises:
        NoUptakeError: no date and time at all.
    """
    try:
        found = DT(shown(value)) if value else None
    except (TypeError, ValueError, AttributeError):
        raise NoUptakeError(f"{_START_DATETIME} is no date and time") from None
    return None if found is None or not re.match(r"\d{12}", value) else found
