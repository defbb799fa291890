#!/usr/bin/env python3
"""Proves a recorder's log without a line of the recorder's own code, for whoever doubts that.

    verify_log.py recorder.db | postgresql://user@host/database | log-1.jsonl log-2.jsonl.gz …
      --checkpoints FILE   heads kept outside the database; again for several
      --public-keys FILE   whose signatures count: 64 hex digits a line (takes cryptography)

Prints JSON lines. Exit codes: 0 sound, 1 damaged, 2 not checked. docs/checkpoints.md has the rest.
"""

import argparse
import gzip
import hashlib
import json
import re
import sqlite3
import sys
import zlib
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey, InvalidSignature = None, ValueError

COLUMNS = "account,position,received_at,connection_id,origin,type,encoding,payload,digest"
DAMAGE, CHECKPOINT = ("position", "finding", "what"), "recorder-checkpoint-1"
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


def us_of(text):
    """Return whole microseconds since 1970."""
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND


def rows_of(sources):
    """Yield rows in the order of positions; those of SQLite as bytes, which may hold anything."""
    source, account = sources[0], ""
    order, names = "FROM events ORDER BY account, position", COLUMNS.split(",")
    if source.startswith("postgres"):
        import psycopg

        columns = COLUMNS.replace("received_at", "(extract(epoch FROM received_at) * 1e6)::text")
        url = re.sub(r"^postgres\w*(\+psycopg)?:", "postgresql:", source)
        try:
            with psycopg.connect(url) as connection, connection.cursor("log") as cursor:
                cursor.itersize = 200
                yield from cursor.execute(f"SELECT {columns} {order}")
        except psycopg.Error as error:
            raise OSError(error) from error
    elif not re.search(r"\.jsonl(\.gz)?$", source):
        uri = Path(source.removeprefix("sqlite:///")).absolute().as_uri() + "?mode=ro"
        columns = ",".join(f"CAST({name} AS BLOB)" for name in names)
        yield from sqlite3.connect(uri, uri=True).execute(f"SELECT {columns} {order}")
    else:
        for _, _, line in lines_of(sources):
            try:
                row = json.loads(line)
                account, digest = row["account"], bytes.fromhex(row["digest"])
                yield *(row[name] for name in names[:-1]), digest
            except UNREADABLE:  # it belongs to the account before it
                yield account, *[None] * 8


def lines_of(files):
    """Yield (file, number, line) of files, plain or gzipped."""
    for file in files:
        with Path(file).open("rb") as raw:
            is_packed = raw.peek(2)[:2] == b"\x1f\x8b"
            for number, line in enumerate(gzip.GzipFile(fileobj=raw) if is_packed else raw, 1):
                yield file, number, line


def fields(*texts):
    """Return each text in UTF-8 behind its length in four bytes."""
    return b"".join(len(text.encode()).to_bytes(4, "big") + text.encode() for text in texts)


class Log(list):
    """One account's checkpoints (position, time, digest), the last first, and its log so far."""

    position, digest, at_us, agreeing, newest_us = 0, bytes(32), 0, 0, 0
    wrong, differing = None, None

    def add(self, row):
        """Check the event that follows, and the checkpoints at its position."""
        expected = self.position + 1
        try:
            texts = [value.decode() if isinstance(value, bytes) else value for value in row[:-1]]
            account, position, moment, *words = texts
            position = int(position)
            at_us = us_of(moment) if "-" in moment[1:] else int(moment.partition(".")[0])
            content = fields("1", account, str(position), str(at_us), words[0] or "", *words[1:])
            digest = hashlib.sha256(self.digest + content).digest()
        except UNREADABLE:
            position, digest = expected, 0  # what no row holds
        if position != expected or digest != row[-1]:
            what = f"doesn't follow from its content and position {self.position}"
            self.wrong = (min(position, expected), "altered", what)
        else:
            self.position, self.digest, self.at_us = position, digest, at_us
            while self and self[-1][0] == position:
                _, then_us, known = self.pop()
                self.agreeing += known == digest
                if known != digest:
                    self.differing = self.differing or (position, at_us)
                    self.newest_us = max(self.newest_us, then_us)


def distrust(key, signature, signed, trusted):
    """Return why a signature doesn't count, or None if it does."""
    if key not in trusted:
        return "unknown_key" if key else "unsigned"
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return "bad_signature"
    return None


def read_checkpoints(files, trusted, logs):
    """Give each log its checkpoints; return what is wrong with them, the first of each kind."""
    wrong = {}
    for file, number, line in lines_of(files):
        bare, finding, account, position = line.strip(b" \t\r\n\0"), "unreadable", None, None
        if not bare.endswith(b"}"):
            continue  # empty, or torn by a crash
        try:
            said = json.loads(bare)
            key, signature = (bytes.fromhex(said[k] or "") for k in ("key", "signature"))
            account, position, digest, at = map(said.get, ("account", "position", "digest", "at"))
            checkpoint = (int(position), us_of(at), bytes.fromhex(digest))
            signed = fields(said["format"], account, str(position), digest, at)
            if said["format"] == CHECKPOINT:
                finding = distrust(key, signature, signed, trusted) if trusted else None
        except UNREADABLE:
            account = position = None
        if finding is None:
            logs[account].append(checkpoint)
        else:
            where = {"account": account, "position": position, "file": file, "line": number}
            wrong.setdefault(finding, {"result": "damaged", "finding": finding} | where)
    for log in logs.values():
        log.sort(reverse=True)
    return list(wrong.values())


def verify(asked):
    """Return what there is to say, in dictionaries."""
    keys = (line.partition(b"#")[0].split() for _, _, line in lines_of(asked.public_keys))
    trusted = {bytes.fromhex(key.decode()) for words in keys for key in words if Ed25519PublicKey}
    logs = defaultdict(Log)
    found = read_checkpoints(asked.checkpoints, trusted, logs)
    for row in rows_of(asked.source):
        account = row[0].decode(errors="replace") if isinstance(row[0], bytes) else str(row[0])
        if not logs[account].wrong:
            logs[account].add(row)
    for account, log in sorted(logs.items()):
        said = {"account": account, "result": "sound", "position": log.position}
        said |= {"digest": log.digest.hex(), "checkpoints": log.agreeing}
        said["signatures"] = "checked" if trusted else "unchecked"
        damage, beyond = log.wrong, [] if log.wrong else [then_us for _, then_us, _ in log]
        if log.differing or beyond:
            position, at_us = log.differing or (log.position + 1, log.at_us)
            kind = "rewritten" if log.differing else "cut_tail"
            kind = "restored" if at_us > max(log.newest_us, *beyond, 0) else kind
            damage = position, kind, "a checkpoint knows another event here"
        if damage:
            said |= {"result": "damaged"} | dict(zip(DAMAGE, damage, strict=True))
        elif not log.agreeing:
            said["not_compared"] = "no checkpoint to compare with"
        found.append(said)
    return found


def main():
    """Print what was found, and return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("source", nargs="+")
    for flag in ("--checkpoints", "--public-keys"):
        parser.add_argument(flag, action="append", metavar="FILE", default=[])
    asked = parser.parse_args()
    try:
        found = verify(asked)
    except (OSError, EOFError, zlib.error, ImportError, ValueError, sqlite3.Error) as error:
        print(f"could not be verified: {error}", file=sys.stderr)
        return 2
    print(*map(json.dumps, found), sep="\n")
    is_lacking = not found or (asked.checkpoints and any("not_compared" in s for s in found))
    return 1 if any(said["result"] == "damaged" for said in found) else 2 if is_lacking else 0


if __name__ == "__main__":
    sys.exit(main())
