"""Who may open the channel, by the published samples and by what differs from them."""

from __future__ import annotations

import pytest
from attrs import evolve

from recorder.simulator import SimulatorConfig
from recorder.simulator.session import Claim, refusal, sign

#: The sample secret of VALR's documents.
SECRET = "4961b74efac86b25cce8fbe4c9811c4c7a787b7a5996660afcc2e287ad864363"
TIMESTAMP = "1558014486185"
CONFIG = SimulatorConfig(key="key", secret=SECRET, sub_account_id="903671169785507840")
VECTORS = [
    (
        (TIMESTAMP, "GET", "/v1/account/balances", b"", ""),
        "9d52c181ed69460b49307b7891f04658e938b21181173844b5018b2fe783a6d4"
        "c62b8e67a03de4d099e7437ebfabe12c56233b73c6a0cc0f7ae87e05f6289928",
    ),
    (
        (
            "1558017528946",
            "POST",
            "/v1/orders/market",
            b'{"customerOrderId":"ORDER-000001","pair":"BTCUSDC","side":"BUY","quoteAmount":"80000"}',
            "",
        ),
        "09f536e3dfdad58443f16010a97a0a21ad27486b7b8d6d4103170d885410ed77"
        "f037f1fa628474190d4f5c08ca12c1acc850901f1c2e75c6d906ec3b32b008d0",
    ),
    (
        (TIMESTAMP, "GET", "/ws/account", b"", ""),
        "7c8893b201ee0a38e4fbc0e15aa30a5bab18a9e6c1e9c4f1c50ab7d1403bd8e1"
        "923d068f21be6b2a2717c43abb014a41ef762a113bb6d323393637dae9ac02fb",
    ),
    (
        (TIMESTAMP, "GET", "/ws/account", b"", "903671169785507840"),
        "35b1a69d63be11eb266d1df9047c73e8d25775fecabe3a687736a95eebd4ac82"
        "d72ba7fe4f9c0021cde01f6f5bdeeecd824797570781d64761f40bf5efbac87f",
    ),
]
RIGHT = Claim("key", VECTORS[2][1], TIMESTAMP)


@pytest.mark.parametrize(("signed", "expected"), VECTORS)
def test_signatures_are_those_published(
    signed: tuple[str, str, str, bytes, str], expected: str
) -> None:
    assert sign(SECRET, *signed) == expected


def refused(claim: Claim, *, late_ms: int = 0, path: str = "/ws/account") -> int | None:
    wrong = refusal(CONFIG, claim, int(TIMESTAMP) + late_ms, "GET", path)
    return None if wrong is None else wrong.status


@pytest.mark.parametrize("late_ms", [-5000, 0, 5000])
def test_who_signs_right_and_in_time_may_pass(late_ms: int) -> None:
    assert refused(RIGHT, late_ms=late_ms) is None


def test_a_sub_account_is_signed_with_its_id() -> None:
    assert refused(Claim("key", VECTORS[3][1], TIMESTAMP, CONFIG.sub_account_id)) is None
    assert refused(Claim("key", VECTORS[2][1], TIMESTAMP, CONFIG.sub_account_id)) == 401
    assert refused(Claim("key", VECTORS[3][1], TIMESTAMP, "anothers")) == 401


@pytest.mark.parametrize("late_ms", [-5001, 5001])
def test_a_time_outside_the_window_is_refused(late_ms: int) -> None:
    assert refused(RIGHT, late_ms=late_ms) == 401


@pytest.mark.parametrize(
    "timestamp", ["", "now", "-1558014486185", "١٥٥٨٠١٤٤٨٦١٨٥", "1" * 5000, "1558014486185.0"]
)
def test_a_time_that_is_none_is_refused(timestamp: str) -> None:
    assert refused(evolve(RIGHT, timestamp=timestamp)) in (401, 403)


@pytest.mark.parametrize(
    "signature", [VECTORS[2][1].upper(), VECTORS[2][1][:-1], VECTORS[0][1], "é", "\ud800"]
)
def test_a_wrong_signature_is_refused(signature: str) -> None:
    assert refused(evolve(RIGHT, signature=signature)) == 401


def test_another_path_or_key_is_refused_and_nothing_shown_is_forbidden() -> None:
    assert refused(RIGHT, path="/ws/trade") == 401
    assert refused(evolve(RIGHT, key="other")) == 401
    assert refused(Claim("", "", "")) == 403


def test_neither_secret_nor_signature_is_ever_shown() -> None:
    assert SECRET not in repr(CONFIG)
    assert VECTORS[2][1] not in repr(RIGHT)
