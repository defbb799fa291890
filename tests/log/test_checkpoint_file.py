"""The file and the keys, and what can be wrong with them."""

from __future__ import annotations

import gzip
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from recorder.errors import CheckpointNotWritten, ConfigurationError
from recorder.log.rules.checkpoint import Checkpoint, Finding, SigningKey, checkpoint_line
from recorder.log.rules.event import Head
from recorder.log.sql.checkpoint_file import (
    LINE_BYTES_MAX,
    append_line,
    is_readable_by_others,
    make_keys,
    public_file_of,
    read_checkpoints,
    read_public_keys,
    read_signing_key,
    rotated_files,
    trusted_keys,
)


def line(position: int = 1, account: str = "main", key: SigningKey | None = None) -> str:
    return checkpoint_line(Checkpoint(account, Head(position, bytes(32)), 5), key)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_line_is_appended_to_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    append_line(path, line(1))
    append_line(path, line(2))

    assert path.read_text() == line(1) + "\n" + line(2) + "\n"
    assert mode_of(path) == 0o600


def test_a_file_that_stands_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    path.touch()
    path.chmod(0o644)
    append_line(path, line())
    assert mode_of(path) == 0o644


def test_a_torn_line_stays_and_the_next_begins_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    append_line(path, line(1))
    with path.open("a") as file:
        file.write(line(2)[:40])
    append_line(path, line(3))

    known = read_checkpoints([path], frozenset())

    assert (known.torn, known.bad, known.comparisons["main"].count) == (1, {}, 2)


def test_a_file_that_was_renamed_is_left_alone_and_a_new_one_begun(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    append_line(path, line(1))
    path.rename(tmp_path / "heads.1")
    append_line(path, line(2))

    assert rotated_files(path) == [path, tmp_path / "heads.1"]
    assert read_checkpoints(rotated_files(path), frozenset()).comparisons["main"].count == 2


def test_what_only_looks_like_a_rotated_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    for name in ("heads.key", "heads.1.bak", "heads2", "other.1", "heads.old"):
        (tmp_path / name).touch()
    assert rotated_files(path) == []
    for name in ("heads.2.gz", "heads-20260101.gz", "heads.10"):
        (tmp_path / name).touch()
    assert [each.name for each in rotated_files(path)] == [
        "heads-20260101.gz",
        "heads.10",
        "heads.2.gz",
    ]


@pytest.mark.parametrize("where", ["missing/heads", "."])
def test_a_file_that_can_not_be_written_is_named(tmp_path: Path, where: str) -> None:
    with pytest.raises(CheckpointNotWritten, match=str(tmp_path)):
        append_line(tmp_path / where, line())


def test_a_full_disk_is_reported_and_the_next_line_is_whole() -> None:
    with pytest.raises(CheckpointNotWritten, match="No space left"):
        append_line(Path("/dev/full"), line())


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    code = (
        "import sys; from pathlib import Path;"
        "from recorder.log.sql.checkpoint_file import append_line;"
        "[append_line(Path(sys.argv[1]), sys.argv[2] * 500 + '}') for _ in range(100)]"
    )
    argv = [sys.executable, "-c", code, str(path)]
    running = [subprocess.Popen([*argv, name]) for name in "abc"]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    lines = [each for each in path.read_text().splitlines() if each]
    assert sorted(lines) == sorted([name * 500 + "}" for name in "abc"] * 100)


def test_a_line_without_end_takes_no_memory_and_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    path.write_bytes(b"x" * (3 * LINE_BYTES_MAX) + b"\n" + line(1).encode() + b"\n")
    known = read_checkpoints([path], frozenset())
    assert known.bad[Finding.UNREADABLE].number == 1
    assert known.comparisons["main"].count == 1


def test_many_bad_lines_are_one_finding_with_a_number(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    path.write_text("{}\n" * 1000)
    bad = read_checkpoints([path], frozenset()).bad[Finding.UNREADABLE]
    assert (bad.number, bad.more) == (1, 999)


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b", gzip.compress(b"x" * 1000, mtime=0)[:-9], b"\x1f\x8bno"],
    ids=["begun", "cut", "no gzip"],
)
def test_a_packed_file_that_is_damaged_could_not_be_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "heads.1.gz"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"heads\.1\.gz"):
        read_checkpoints([path], frozenset())


# Keys.


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    made = make_keys(file)

    assert mode_of(file) == 0o600
    assert not is_readable_by_others(file)
    assert read_signing_key(file).public == made.public
    assert read_public_keys(public_file_of(file)) == {made.public}
    before = file.read_bytes()
    for gone in (file, public_file_of(file)):
        with pytest.raises(ConfigurationError, match="never overwritten"):
            make_keys(file)
        assert not file.exists() or file.read_bytes() == before
        gone.unlink()


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError):
        make_keys(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_of_openssl_is_one_too(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    file = tmp_path / "key"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o644)
    assert read_signing_key(file).public == key.public_key().public_bytes_raw()
    assert is_readable_by_others(file)
    assert trusted_keys("", str(file)) == {key.public_key().public_bytes_raw()}


SECRET = "MC4CAQAwBQYDK2VwBCIEIAAB"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n".encode(),
        SECRET.encode(),
        X25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        ),
    ],
)
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="no Ed25519 key") as caught:
        read_signing_key(file)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_public_keys_may_be_several_with_remarks(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of 2025\n{'ab' * 32}\n\n{'CD' * 32} # of 2026\n")
    assert read_public_keys(file) == {b"\xab" * 32, b"\xcd" * 32}


@pytest.mark.parametrize("content", ["", "# nothing\n", "abcd\n", "no key at all\n", "\udcff"])
def test_a_file_without_a_public_key_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match="keys"):
        read_public_keys(file)


def test_no_key_is_trusted_where_none_is_named(tmp_path: Path) -> None:
    assert trusted_keys("", "") == frozenset()
    for names in ((str(tmp_path / "none"), ""), ("", str(tmp_path / "none"))):
        with pytest.raises(ConfigurationError, match="none"):
            trusted_keys(*names)
