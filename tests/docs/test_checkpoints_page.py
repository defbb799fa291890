"""The page on checkpoints: its example is a good one, and every finding is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from recorder.log.rules.checkpoint import (
    FORMAT,
    Finding,
    SigningKey,
    checkpoint_line,
    has_good_signature,
    read_checkpoint,
)
from recorder.log.tasks.checkpoints import FINISH_S, HOOK_S, RETRY_MAX_S, RETRY_S

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "".join(
    (DOCS / name).read_text(encoding="utf-8")
    for name in ("how-to/publish-checkpoints.md", "reference/checkpoint-format.md")
)
EXAMPLE = PAGE.split("```json\n")[1].split("\n```")[0]


def test_the_example_is_signed_by_the_key_that_the_page_names() -> None:
    signed = read_checkpoint(EXAMPLE.encode())
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    assert has_good_signature(signed)
    assert checkpoint_line(signed.checkpoint, key) == EXAMPLE
    assert f"`{FORMAT}`; another version" in PAGE


def test_a_public_key_for_openssl_is_made_as_the_page_shows() -> None:
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    prefix = "302a300506032b6570032100"
    assert f"`{prefix}`" in PAGE
    loaded = load_der_public_key(bytes.fromhex(prefix) + key.public)
    assert isinstance(loaded, Ed25519PublicKey)
    assert loaded.public_bytes_raw() == key.public


@pytest.mark.parametrize("finding", list(Finding))
def test_a_finding_has_a_row_in_the_page(finding: Finding) -> None:
    assert f"\n| `{finding.value}` |" in PAGE


def test_the_page_knows_how_long_places_are_waited_for() -> None:
    assert f"After {HOOK_S:g} s it is killed" in PAGE
    assert f"again after {RETRY_S:g} s" in PAGE
    assert f"to {RETRY_MAX_S / 60:g} minutes" in PAGE
    assert f"together have {FINISH_S:g} s" in PAGE
