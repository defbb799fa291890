"""Signatures against the published vectors, and what the log may see of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.signing import (
    authenticate_frame,
    handshake_headers,
    redacted_authenticate_frame,
    sign,
)

#: Published with the documentation; it opens nothing.
SECRET = "4961b74efac86b25cce8fbe4c9811c4c7a787b7a5996660afcc2e287ad864363"
KEY = "yourApiKey"
MARKET_BODY = (
    '{"customerOrderId":"ORDER-000001","pair":"BTCUSDC","side":"BUY","quoteAmount":"80000"}'
)


@pytest.mark.parametrize(
    ("timestamp_ms", "verb", "path", "body", "sub_account_id", "signature"),
    [
        (
            1558014486185,
            "GET",
            "/v1/account/balances",
            "",
            "",
            "9d52c181ed69460b49307b7891f04658e938b21181173844b5018b2fe783a6d4"
            "c62b8e67a03de4d099e7437ebfabe12c56233b73c6a0cc0f7ae87e05f6289928",
        ),
        (
            1558017528946,
            "POST",
            "/v1/orders/market",
            MARKET_BODY,
            "",
            "09f536e3dfdad58443f16010a97a0a21ad27486b7b8d6d4103170d885410ed77"
            "f037f1fa628474190d4f5c08ca12c1acc850901f1c2e75c6d906ec3b32b008d0",
        ),
        (
            1558014486185,
            "GET",
            "/ws/account",
            "",
            "",
            "7c8893b201ee0a38e4fbc0e15aa30a5bab18a9e6c1e9c4f1c50ab7d1403bd8e1"
            "923d068f21be6b2a2717c43abb014a41ef762a113bb6d323393637dae9ac02fb",
        ),
        (
            1558014486185,
            "get",
            "/ws/account",
            "",
            "903671169785507840",
            "35b1a69d63be11eb266d1df9047c73e8d25775fecabe3a687736a95eebd4ac82"
            "d72ba7fe4f9c0021cde01f6f5bdeeecd824797570781d64761f40bf5efbac87f",
        ),
    ],
)
def test_the_published_vectors_come_out(
    timestamp_ms: int, verb: str, path: str, body: str, sub_account_id: str, signature: str
) -> None:
    assert sign(SECRET, timestamp_ms, verb, path, body, sub_account_id) == signature


def test_the_handshake_sends_the_signed_timestamp() -> None:
    headers = dict(handshake_headers(KEY, SECRET, 1558014486185, "/ws/account"))
    assert headers == {
        "X-VALR-API-KEY": KEY,
        "X-VALR-SIGNATURE": sign(SECRET, 1558014486185, "GET", "/ws/account"),
        "X-VALR-TIMESTAMP": "1558014486185",
    }


def test_a_sub_account_is_named_exactly_when_it_is_signed() -> None:
    headers = dict(handshake_headers(KEY, SECRET, 1, "/ws/account", "903671169785507840"))
    assert headers["X-VALR-SUB-ACCOUNT-ID"] == "903671169785507840"
    assert headers["X-VALR-SIGNATURE"] == sign(
        SECRET, 1, "GET", "/ws/account", "", "903671169785507840"
    )
    assert "X-VALR-SUB-ACCOUNT-ID" not in dict(handshake_headers(KEY, SECRET, 1, "/ws/account"))


def test_the_in_band_frame_has_the_published_shape() -> None:
    frame = json.loads(authenticate_frame(KEY, SECRET, 1234567890123, "/ws/account"))
    assert frame == {
        "type": "AUTHENTICATE",
        "payload": {
            "apiKey": KEY,
            "signature": sign(SECRET, 1234567890123, "GET", "/ws/account"),
            "timestamp": 1234567890123,
        },
    }


@given(timestamp_ms=st.integers(0, 2**53))
def test_the_redacted_frame_is_the_same_without_key_and_signature(timestamp_ms: int) -> None:
    frame = json.loads(authenticate_frame(KEY, SECRET, timestamp_ms, "/ws/account"))
    del frame["payload"]["apiKey"], frame["payload"]["signature"]
    assert json.loads(redacted_authenticate_frame(timestamp_ms)) == frame
