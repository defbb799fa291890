"""The line of a checkpoint: what it reports, what is signed, and whom it convinces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from recorder.log.rules.checkpoint import (
    FORMAT,
    Checkpoint,
    Distrusted,
    Finding,
    SigningKey,
    checkpoint_line,
    has_good_signature,
    judge_line,
    read_checkpoint,
    signed_bytes,
)
from recorder.log.rules.event import Head

SEED = bytes(range(32))
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(SEED))
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
CHECKPOINT = Checkpoint("main", Head(3, bytes(range(32))), 1_772_366_400_123_456)
TRUSTED = frozenset({KEY.public})

checkpoints = st.builds(
    Checkpoint,
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
    st.builds(Head, st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32)),
    st.integers(0, 4_102_444_800_000_000),
)


def changed(**values: Any) -> bytes:
    """Return a good line with other values in it."""
    return json.dumps(json.loads(checkpoint_line(CHECKPOINT, KEY)) | values).encode()


def test_a_line_is_what_the_document_describes() -> None:
    answer = json.loads(checkpoint_line(CHECKPOINT, None))

    assert answer == {
        "format": "recorder-checkpoint-1",
        "account": "main",
        "position": 3,
        "digest": bytes(range(32)).hex(),
        "at": "2026-03-01T12:00:00.123456Z",
        "key": None,
        "signature": None,
    }


def test_another_program_can_check_the_signature_from_the_line_alone() -> None:
    answer = json.loads(checkpoint_line(CHECKPOINT, KEY))
    texts = [
        answer["format"],
        answer["account"],
        str(answer["position"]),
        answer["digest"],
        answer["at"],
    ]
    signed = b"".join(len(text).to_bytes(4, "big") + text.encode() for text in texts)

    assert signed == signed_bytes(CHECKPOINT)
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(answer["key"]))
    key.verify(bytes.fromhex(answer["signature"]), signed)


@given(checkpoints)
def test_what_was_written_is_read_again_and_believed(checkpoint: Checkpoint) -> None:
    line = checkpoint_line(checkpoint, KEY)

    assert line.isascii()
    assert "\n" not in line
    signed = read_checkpoint(line.encode())
    assert signed.checkpoint == checkpoint
    assert has_good_signature(signed)
    assert judge_line(line.encode(), TRUSTED) == checkpoint


@given(st.data())
def test_no_changed_byte_of_a_signed_line_convinces(data: st.DataObject) -> None:
    line = bytearray(checkpoint_line(CHECKPOINT, KEY).encode())
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))

    judged = judge_line(bytes(line), TRUSTED)

    # Space between the tokens is not content.
    assert isinstance(judged, Distrusted) or judged == CHECKPOINT


@given(st.binary(max_size=300))
def test_no_garbage_is_more_than_unreadable(line: bytes) -> None:
    judged = judge_line(line, frozenset())

    assert isinstance(judged, Distrusted)
    assert judged.finding is Finding.UNREADABLE


@pytest.mark.parametrize(
    "values",
    [
        {"format": "recorder-checkpoint-2"},
        {"format": None},
        {"account": ""},
        {"account": 5},
        {"account": "\ud800"},
        {"position": 0},
        {"position": -1},
        {"position": "3"},
        {"position": True},
        {"position": 3.0},
        {"position": 2**63},
        {"digest": "ab"},
        {"digest": "AB" * 32},
        {"digest": None},
        {"at": "2026-03-01T12:00:00Z"},
        {"at": "2026-03-01T12:00:00.123456+00:00"},
        {"at": "2026-02-30T12:00:00.123456Z"},
        {"at": 5},
        {"key": None},
        {"key": "ab"},
        {"signature": None},
        {"signature": "zz" * 64},
    ],
)
def test_a_line_with_a_value_that_no_recorder_writes_is_unreadable(values: dict[str, Any]) -> None:
    judged = judge_line(changed(**values), TRUSTED)

    assert isinstance(judged, Distrusted)
    assert judged.finding is Finding.UNREADABLE


def test_each_way_not_to_be_trusted_has_its_name() -> None:
    unsigned = checkpoint_line(CHECKPOINT, None).encode()
    foreign = checkpoint_line(CHECKPOINT, OTHER).encode()
    found = {
        Finding.UNSIGNED: judge_line(unsigned, TRUSTED),
        Finding.UNKNOWN_KEY: judge_line(foreign, TRUSTED),
        Finding.BAD_SIGNATURE: judge_line(changed(position=4), TRUSTED),
    }

    for finding, judged in found.items():
        assert isinstance(judged, Distrusted)
        assert judged.finding is finding
    assert judge_line(unsigned, frozenset()) == CHECKPOINT
    assert judge_line(foreign, TRUSTED | {OTHER.public}) == CHECKPOINT


def test_a_signature_by_a_point_that_is_no_key_is_wrong_and_no_error() -> None:
    for key in ("00" * 32, "ff" * 32, "02" + "00" * 31):
        judged = judge_line(changed(key=key), frozenset({bytes.fromhex(key)}))
        assert isinstance(judged, Distrusted)
        assert judged.finding is Finding.BAD_SIGNATURE


def test_nothing_that_is_printed_of_a_key_shows_it() -> None:
    for shown in (repr(KEY), str(KEY), f"{KEY}", repr([KEY])):
        assert SEED.hex() not in shown
        assert repr(SEED) not in shown
        assert KEY.public.hex() in shown
    assert FORMAT == "recorder-checkpoint-1"
