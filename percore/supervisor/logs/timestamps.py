"""Moments as text, in the format that PM2's users write (day.js: `YYYY-MM-DD HH:mm:ss.SSS`), and back."""

from __future__ import annotations

import calendar
import re
import time

from percore.common.typing import Callable, Optional

ISO_SECONDS = "YYYY-MM-DDTHH:mm:ss"
ISO_UTC = "iso"  # JavaScript's own: 2024-05-06T07:08:09.012Z

_TOKEN = re.compile(
    r"\[([^\]]*)\]|YYYY|YY|MMMM|MMM|MM|M|DD|D|dddd|ddd|dd|d|HH|H|hh|h|mm|m|ss|s|SSS|ZZ|Z|A|a"  # longest first
)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_STAMP = re.compile(rb"\[?(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?")
_IN_JSON = re.compile(rb'"(?:timestamp|time)"\s*:\s*(?:"([^"]{19,40})"|(\d{13})\b)')
_SEARCHED_BYTES = 4096


def make_stamper(format: str) -> Callable[[float], str]:
    """A function from seconds since 1970 to the local time in this format."""
    if format == ISO_UTC:
        return _iso_utc
    parts: list[object] = []
    at = 0
    for match in _TOKEN.finditer(format):
        parts += [format[at : match.start()], match[1] if match[0].startswith("[") else _WRITERS[match[0]]]
        at = match.end()
    parts.append(format[at:])

    def stamp(seconds: float) -> str:
        moment, milliseconds = time.localtime(seconds), int(seconds * 1000) % 1000
        return "".join(part if isinstance(part, str) else part(moment, milliseconds) for part in parts)  # type: ignore[operator]

    return stamp


def _iso_utc(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds * 1000) % 1000:03}Z"


def _zone(moment: time.struct_time, between: str) -> str:
    minutes = moment.tm_gmtoff // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{between}{abs(minutes) % 60:02}"


_Writer = Callable[[time.struct_time, int], str]
_WRITERS: dict[str, _Writer] = {
    "YYYY": lambda t, _: f"{t.tm_year:04}",
    "YY": lambda t, _: f"{t.tm_year % 100:02}",
    "MMMM": lambda t, _: _MONTHS[t.tm_mon - 1],
    "MMM": lambda t, _: _MONTHS[t.tm_mon - 1][:3],
    "MM": lambda t, _: f"{t.tm_mon:02}",
    "M": lambda t, _: str(t.tm_mon),
    "DD": lambda t, _: f"{t.tm_mday:02}",
    "D": lambda t, _: str(t.tm_mday),
    "dddd": lambda t, _: _DAYS[t.tm_wday],
    "ddd": lambda t, _: _DAYS[t.tm_wday][:3],
    "dd": lambda t, _: _DAYS[t.tm_wday][:2],
    "d": lambda t, _: str((t.tm_wday + 1) % 7),
    "HH": lambda t, _: f"{t.tm_hour:02}",
    "H": lambda t, _: str(t.tm_hour),
    "hh": lambda t, _: f"{t.tm_hour % 12 or 12:02}",
    "h": lambda t, _: str(t.tm_hour % 12 or 12),
    "mm": lambda t, _: f"{t.tm_min:02}",
    "m": lambda t, _: str(t.tm_min),
    "ss": lambda t, _: f"{t.tm_sec:02}",
    "s": lambda t, _: str(t.tm_sec),
    "SSS": lambda _, milliseconds: f"{milliseconds:03}",
    "ZZ": lambda t, _: _zone(t, ""),
    "Z": lambda t, _: _zone(t, ":"),
    "A": lambda t, _: "AM" if t.tm_hour < 12 else "PM",
    "a": lambda t, _: "am" if t.tm_hour < 12 else "pm",
}


def read_stamp(line: bytes) -> Optional[float]:
    """The moment that a log line begins with, or that stands in it as JSON; None when it tells none."""
    match = _STAMP.match(line)
    if not match and line.startswith(b"{"):
        in_json = _IN_JSON.search(line, 0, _SEARCHED_BYTES)
        if in_json and in_json[2]:
            return int(in_json[2]) / 1000
        match = _STAMP.match(in_json[1]) if in_json else None
    if not match:
        return None
    numbers = [int(group) for group in match.groups()[:6]]
    try:
        moment = time.struct_time((*numbers, 0, 0, -1))
        seconds = calendar.timegm(moment) if match[8] else time.mktime(moment)
    except (ValueError, OverflowError):
        return None
    if match[8] not in (None, b"Z"):
        sign, digits = match[8][:1], match[8][1:].replace(b":", b"")
        seconds -= (-1 if sign == b"-" else 1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
    return seconds + float(b"0." + (match[7] or b"0"))
