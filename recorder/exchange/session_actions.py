"""What a session asks of the owner of its socket: to send, to note, or to end the session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime

from attrs import field, frozen

from recorder.errors import SessionLost


@frozen
class SendText:
    """Write this text frame; the log gets ``log_text``, which differs only to hide a secret.

    ``repr`` shows ``log_text`` alone, so that a traceback can't print what it hides.
    """

    text: str = field(repr=False)
    log_text: str

    @classmethod
    def of(cls, text: str) -> SendText:
        """Return the action for a frame that holds no secret."""
        return cls(text, text)


@frozen
class Fact:
    """Note this. ``note`` is the value of a ``log.event.Note``, ``facts`` are JSON values.

    Named by plain text because the log's floor lies above this one.
    """

    note: str
    facts: Mapping[str, object]


@frozen
class Lost:
    """The session is over.

    ``by`` names who ended it (``exchange``, ``network`` or ``recorder``); ``refused`` is true
    where the exchange turned our credentials down, so that trying again soon would only hammer it;
    ``retry_after_s`` is how long it asked us to stay away.
    """

    reason: str
    by: str = "network"
    refused: bool = False
    code: int | None = None
    retry_after_s: float | None = None

    def error(self) -> SessionLost:
        """Return the exception that reports the same."""
        return SessionLost(
            self.reason,
            code=self.code,
            by=self.by,
            refused=self.refused,
            retry_after_s=self.retry_after_s,
        )


Action = SendText | Fact | Lost


#: Characters of another's text that a reason quotes: enough for a sentence.
EXCERPT_CHARS_MAX = 200
#: Characters of a body that are looked at; an error page may be long and has its reason at the top.
BODY_CHARS_MAX = 4096
#: VALR counts connections by the minute, so a 429 lasts up to one.
TOO_MANY_WAIT_S = 60.0
#: A longer Retry-After is not believed: the account would go unrecorded for it.
RETRY_AFTER_MAX_S = 900.0

#: Keys are 64 and signatures 128 hex digits; ids with dashes stay readable.
_CREDENTIAL_LIKE = re.compile(r"[0-9A-Za-z]{32,}")
#: What answers may release our request as it was, with the signature of this one connection.
_SIGNATURE = re.compile(rb"[0-9a-fA-F]{128}")
_SIGNATURE_WORDS = ("signature", "timestamp", "api key", "api-key", "apikey", "unauthorized")

CLOSED_INVALID_PAYLOAD = 1007
#: Codes that speak of the line or of the exchange's own problem, never of credentials: going away,
#: cut without a close frame, internal error, service restart, try again later, bad gateway, TLS.
CLOSED_WITHOUT_REFUSAL = frozenset({1001, 1006, 1011, 1012, 1013, 1014, 1015})
_CUT_CODE = 1006

HeaderPart = str | bytes


def close_reason(
    code: int | None,
    reason: str | None,
    *,
    authenticated: bool,
    hidden: Iterable[str] = (),
) -> Lost:
    """Return what a close, or a cut (``code`` None), means.

    ``hidden`` are texts of ours that must not be repeated.
    """
    quoted = excerpt(reason, hidden)
    what = "the connection was cut" if code in (None, _CUT_CODE) else f"closed with code {code}"
    return Lost(
        reason=f"{what}: {quoted}" if quoted else what,
        by="network" if code in (None, _CUT_CODE) else "exchange",
        refused=_close_refuses(code, quoted, authenticated),
        code=code,
    )


def handshake_refusal(
    status: int,
    headers: Iterable[tuple[HeaderPart, HeaderPart]],
    body: HeaderPart | None,
    *,
    hidden: Iterable[str] = (),
) -> Lost:
    """Return what an HTTP answer other than 101 to the upgrade means."""
    quoted = excerpt(_text(body), hidden)
    what = f"the upgrade was answered with HTTP {status}"
    reason = f"{what}: {quoted}" if quoted else what
    if status == 429:
        return Lost(
            reason,
            by="exchange",
            retry_after_s=max(TOO_MANY_WAIT_S, _retry_after(headers) or 0.0),
        )
    return Lost(
        reason,
        by="exchange",
        refused=status in (401, 403) or (status == 400 and _speaks_of_credentials(quoted)),
        retry_after_s=_retry_after(headers),
    )


def excerpt(text: str | None, hidden: Iterable[str] = ()) -> str:
    """Return the beginning of another's text, on one line and without our secrets."""
    shown = (text or "")[:BODY_CHARS_MAX]
    for secret in hidden:
        if secret:
            shown = re.sub(re.escape(secret), "***", shown, flags=re.IGNORECASE)
    shown = _CREDENTIAL_LIKE.sub("***", shown)
    # Characters that turn or hide what stands beside them are none of a text to be shown.
    shown = " ".join("".join(each if each.isprintable() else " " for each in shown).split())
    return shown if len(shown) <= EXCERPT_CHARS_MAX else shown[: EXCERPT_CHARS_MAX - 1] + "…"


def masked(unread: bytes, hidden: Iterable[str]) -> bytes:
    """Return another's bytes as they are, but for our secrets and signatures."""
    for secret in filter(None, hidden):
        unread = re.sub(re.escape(secret.encode()), b"***", unread, flags=re.IGNORECASE)
    return _SIGNATURE.sub(b"***", unread)


def _close_refuses(code: int | None, quoted: str, authenticated: bool) -> bool:
    if code == CLOSED_INVALID_PAYLOAD:
        return not authenticated or _speaks_of_credentials(quoted)
    return code is not None and not authenticated and code not in CLOSED_WITHOUT_REFUSAL


def _speaks_of_credentials(quoted: str) -> bool:
    return any(word in quoted.lower() for word in _SIGNATURE_WORDS)


def asked_wait_s(retry_after: str, date: str = "") -> float | None:
    """Return the seconds that a Retry-After asks for, a quarter of an hour at most; None of none.

    One that names a moment is counted from the ``date`` of the same answer: two clocks may differ.
    """
    headers_ = retry_after.strip()
    if headers_.isascii() and headers_.isdigit():
        return min(float(headers_), RETRY_AFTER_MAX_S)
    try:
        wait = parsedate_to_datetime(headers_) - parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait.total_seconds(), 0.0), RETRY_AFTER_MAX_S)


def _retry_after(headers: Iterable[tuple[HeaderPart, HeaderPart]]) -> float | None:
    headers_ = {_text(name).lower(): _text(value) for name, value in headers}
    return asked_wait_s(headers_.get("retry-after", ""), headers_.get("date", ""))


def _text(part: HeaderPart | None) -> str:
    if isinstance(part, bytes):
        return part.decode("utf-8", "replace")
    return part or ""
