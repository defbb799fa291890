"""What closes and refused upgrades mean, and that nothing of ours is repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.session_actions import (
    EXCERPT_CHARS_MAX,
    asked_wait_s,
    close_reason,
    excerpt,
    handshake_refusal,
    masked,
)

KEY = "0f3c" * 16
SIGNATURE = "ab12" * 32


@pytest.mark.parametrize(
    ("code", "reason", "authenticated", "refused", "by"),
    [
        (1007, "Request has an invalid signature", False, True, "exchange"),
        (1007, "Request has an invalid signature", True, True, "exchange"),
        (1007, "invalid frame payload", True, False, "exchange"),
        (1000, "", False, True, "exchange"),
        (1000, "", True, False, "exchange"),
        (1005, None, False, True, "exchange"),
        (1008, "", False, True, "exchange"),
        (1008, "", True, False, "exchange"),
        (4001, "Unauthorized", False, True, "exchange"),
        (1001, "", False, False, "exchange"),
        (1011, "", False, False, "exchange"),
        (1012, "service restart", False, False, "exchange"),
        (1013, "", False, False, "exchange"),
        (1006, "", False, False, "network"),
        (None, None, False, False, "network"),
        (None, None, True, False, "network"),
    ],
)
def test_a_close_is_read_by_its_code_and_by_whether_we_were_authenticated(
    code: int | None, reason: str | None, authenticated: bool, refused: bool, by: str
) -> None:
    lost = close_reason(code, reason, authenticated=authenticated)
    assert (lost.refused, lost.by, lost.code) == (refused, by, code)


def test_the_close_reason_is_quoted() -> None:
    lost = close_reason(1007, "Request has an invalid signature", authenticated=False)
    assert lost.reason == "closed with code 1007: Request has an invalid signature"


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (401, b"", True),
        (403, b'{"code":-11252,"message":"x"}', True),
        (400, b'{"message":"Request has an invalid signature"}', True),
        (400, b"X-VALR-TIMESTAMP is too old", True),
        (400, b"Bad Request", False),
        (404, b"", False),
        (500, b"invalid signature", False),
        (503, None, False),
        (302, b"", False),
    ],
)
def test_an_answer_to_the_upgrade_is_read_by_status_and_words(
    status: int, body: bytes | None, refused: bool
) -> None:
    lost = handshake_refusal(status, (), body)
    assert lost.refused is refused
    assert str(status) in lost.reason


def test_too_many_connections_means_a_minute_at_least() -> None:
    assert handshake_refusal(429, (), b"").retry_after_s == 60
    assert handshake_refusal(429, [(b"Retry-After", b"5")], b"").retry_after_s == 60
    assert handshake_refusal(429, [("retry-after", "120")], "").retry_after_s == 120


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1e9", "", "٣"])
def test_a_retry_after_that_is_no_number_of_seconds_is_not_read(value: str) -> None:
    assert handshake_refusal(503, [("Retry-After", value)], "").retry_after_s is None


@pytest.mark.parametrize(
    ("until", "wait_s"),
    [
        ("Wed, 21 Oct 2026 07:30:05 GMT", 125),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0),
        ("Thu, 21 Oct 2027 07:28:00 GMT", 900),
        ("Wed, 21 Oct 2026 25:61:61 GMT", None),
    ],
)
def test_a_moment_to_come_back_at_is_counted_by_the_exchanges_own_clock(
    until: str, wait_s: float | None
) -> None:
    headers = [("Date", "Wed, 21 Oct 2026 07:28:00 GMT"), ("Retry-After", until)]
    assert handshake_refusal(503, headers, "").retry_after_s == wait_s
    assert asked_wait_s(until) is None


@pytest.mark.parametrize(
    ("reported", "wait_s"), [("0", 0), ("00000120", 120), ("1234567", 900), ("9" * 5_000, 900)]
)
def test_seconds_to_stay_away_are_read_however_they_are_written(
    reported: str, wait_s: float
) -> None:
    assert asked_wait_s(reported) == wait_s


def test_an_exchange_can_not_send_us_away_for_days() -> None:
    lost = handshake_refusal(503, [("Retry-After", "9" * 5000)], "")
    assert lost.retry_after_s == 900


def test_key_and_signature_are_never_repeated() -> None:
    body = f"key {KEY} with signature {SIGNATURE.upper()} is unknown".encode()
    lost = handshake_refusal(401, (), body)
    assert KEY not in lost.reason
    assert SIGNATURE[:32].upper() not in lost.reason
    assert "is unknown" in lost.reason
    assert KEY not in close_reason(4001, f"bad {KEY}", authenticated=False).reason


def test_a_short_key_is_hidden_when_it_is_named() -> None:
    lost = handshake_refusal(401, (), b"no such key: Demo-Key", hidden=("demo-key", ""))
    assert lost.reason == "the upgrade was answered with HTTP 401: no such key: ***"


def test_ids_with_dashes_stay_readable() -> None:
    assert "019a29d0-4362-7dc9-a51d-3533a4bdcf2d" in excerpt(
        "trace 019a29d0-4362-7dc9-a51d-3533a4bdcf2d"
    )


@given(st.text(st.characters(), max_size=600), st.text(min_size=4, max_size=12))
def test_an_excerpt_is_one_short_printable_line_without_what_is_hidden(
    text: str, secret: str
) -> None:
    shown = excerpt(text + secret + text, (secret,))
    assert len(shown) <= EXCERPT_CHARS_MAX
    assert shown.encode().decode().splitlines() in ([], [shown])
    assert shown.isprintable()


@given(st.integers(100, 999), st.binary(max_size=300))
def test_no_answer_to_the_upgrade_is_too_strange_to_be_read(status: int, body: bytes) -> None:
    refused = handshake_refusal(status, [(body, body)], body).reason
    closed = close_reason(status * 6, body.decode("latin-1"), authenticated=False).reason
    for reason, code in ((refused, status), (closed, status * 6)):
        assert reason.encode().decode().isprintable()
        assert str(code) in reason


def test_bytes_that_could_not_be_read_are_kept_without_our_secrets_and_signatures() -> None:
    answer = (
        b"\x00\xffX-VALR-API-KEY: A-Key\r\nX-VALR-SIGNATURE: " + b"0aF" * 42 + b"ff\r\nX-Id: abc"
    )
    kept = b"\x00\xffX-VALR-API-KEY: ***\r\nX-VALR-SIGNATURE: ***\r\nX-Id: abc"
    assert masked(answer, ("a-key", "", "a-secret")) == kept
