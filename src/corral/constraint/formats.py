"""String formats as patterns: what each one's texts may look like. Pure data; `schema.py` reads it.

A pattern holds no more than its format means for every checker (real dates, no leap seconds), and ends: digits are
bounded. Formats that are not here are annotations, as JSON Schema has it: any string.
"""

from __future__ import annotations

# RFC 3339, appendix A for durations
_DAYS = (
    "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])",
    "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    "02-(?:0[1-9]|1[0-9]|2[0-8])",
)
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"  # 0001 to 9999
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = f"(?:{_YEAR}-(?:{'|'.join(_DAYS)})|{_LEAP_YEAR}-02-29)"
_OFFSET = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_TIME = rf"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,9}})?{_OFFSET}"
_COUNT = "[0-9]{1,6}"
_DATE_SPAN = f"(?:{_COUNT}Y(?:{_COUNT}M(?:{_COUNT}D)?)?|{_COUNT}M(?:{_COUNT}D)?|{_COUNT}D)"
_TIME_SPAN = f"T(?:{_COUNT}H(?:{_COUNT}M(?:{_COUNT}S)?)?|{_COUNT}M(?:{_COUNT}S)?|{_COUNT}S)"
_DURATION = f"P(?:{_DATE_SPAN}(?:{_TIME_SPAN})?|{_TIME_SPAN}|{_COUNT}W)"

# RFC 1123, 5321, 4291
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,28}[A-Za-z0-9])?"  # 30 of 63, and 7 of them: within 253 together
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,6}}"
_ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,30}"
_EMAIL = rf"{_ATOM}(?:\.{_ATOM})?@{_HOST}"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_PART = "[0-9A-Fa-f]{1,4}"
_SHORTENED = [
    f"{_PART}(?::{_PART}){{{before}}}::(?:{_PART}(?::{_PART}){{0,{5 - before}}})?" for before in range(6)
]  # 1 to 6 parts, the gap, and so many behind it that at least one is left out
_IPV6 = f"(?:{_PART}:){{7}}{_PART}|::(?:{_PART}(?::{_PART}){{0,6}})?|{'|'.join(_SHORTENED)}"
_HEX = "[0-9A-Fa-f]"
_UUID = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"

# RFC 3986, without user names and IP literals
_ENCODED = f"%{_HEX}{{2}}"
_SEGMENT = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_ENCODED})"
_NO_SCHEME = rf"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|{_ENCODED})"
_REST = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|{_ENCODED})*"
_AUTHORITY = rf"//(?:[A-Za-z0-9._~-]|{_ENCODED})*(?::[0-9]{{1,5}})?(?:[/?]{_REST})?"
_URI = f"[A-Za-z][A-Za-z0-9+.-]{{0,30}}:(?:{_AUTHORITY}|{_SEGMENT}{_REST})(?:#{_REST})?"
_URI_REFERENCE = f"(?:{_URI}|(?:/(?:{_SEGMENT}{_REST})?|{_NO_SCHEME}+(?:[/?]{_REST})?)(?:#{_REST})?)"

_POINTER = "(?:/(?:[^~/]|~[01])*)*"

FORMATS: dict[str, str] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": _DURATION,
    "email": _EMAIL,
    "idn-email": _EMAIL,
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": f"(?:{_IPV6})",
    "uuid": _UUID,
    **{f"uuid{version}": _UUID for version in range(1, 6)},
    "uri": _URI,
    "iri": _URI,
    "uri-reference": _URI_REFERENCE,
    "iri-reference": _URI_REFERENCE,
    "uri-template": _URI_REFERENCE,
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]{{0,5}})(?:#|{_POINTER})",
}


def format_pattern(name: object) -> str | None:
    """The pattern of a format, anchored; None for one that says nothing about the text."""
    found = FORMATS.get(name) if isinstance(name, str) else None
    return None if found is None else f"^(?:{found})$"
