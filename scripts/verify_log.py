#!/usr/bin/env python3
"""Proves a recorder's log without any of the recorder's code, for an auditor who trusts neither.

    verify_log.py recorder.db | postgresql://user@host/database | log-1.jsonl log-2.jsonl.gz …
      --checkpoints FILE   heads kept outside the database; again for several
      --public-keys FILE   whose signatures count: 64 hex digits a line (takes cryptography)

Prints JSON lines. Exit codes: 0 sound, 1 damaged, 2 not checked.
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

COLUMNS = "account,position,received_at,connection_id,origin,type,encoding,payload,digest"
DAMAGE, EPOCH = ("position", "finding", "what"), datetime(1970, 1, 1, tzinfo=UTC)
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
LINE = r'\[".+", "recorder-checkpoint-1", [1-9]\d{0,18}, N{64}, ".+Z", (null, null|N{64}, N{128})\]'
LINE = re.sub(r"N({\d+})", r'"[0-9a-f]\1"', LINE)


def us_of(text):
    """Return whole microseconds since 1970 of YYYY-MM-DD HH:MM:SS.ffffff in UTC."""
    plain = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", text, re.ASCII)
    return (datetime.fromisoformat(f"{plain[0]}+00:00") - EPOCH) // timedelta(microseconds=1)


def rows_of(sources):
    """Yield rows in the order of positions, from the table itself: an index may hide some."""
    source, account, names = sources[0], "", COLUMNS.split(",")
    if source.startswith("postgres"):
        import psycopg

        read = COLUMNS.replace("received_at", "extract(epoch FROM received_at)")
        url = re.sub(r"^postgres\w*(\+psycopg)?:", "postgresql:", source)
        try:
            with psycopg.connect(url, client_encoding="UTF8") as one, one.cursor("log") as cursor:
                one.execute("SET enable_indexscan = off; SET statement_timeout = 0")
                yield from cursor.execute(f"SELECT {read} FROM events ORDER BY account, position")
        except psycopg.Error as error:
            raise OSError(error) from error
    elif not re.search(r"\.jsonl(\.gz)?$", source):
        uri = Path(source.removeprefix("sqlite:///")).absolute().as_uri() + "?mode=ro"
        connection = sqlite3.connect(uri, uri=True)
        # What is no UTF-8 becomes what can't be encoded again.
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        yield from connection.execute(f"SELECT {COLUMNS} FROM events NOT INDEXED ORDER BY rowid")
    else:
        for _, _, line in lines_of(sources):
            try:
                row = json.loads(line)
                account, digest = row["account"], bytes.fromhex(row["digest"])
                time = re.fullmatch(r"(.{10})T(.{15})\+00:00", row["received_at"])
                row["received_at"] = time.expand(r"\1 \2")
                yield *(row[name] for name in names[:-1]), digest
            except UNREADABLE:  # it belongs to the account before it
                yield account, *[None] * 8


def lines_of(files):
    """Yield (file, number, line) of files, plain or gzipped."""
    for file in files:
        with Path(file).open("rb") as raw:
            lines = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
            yield from ((file, number, line) for number, line in enumerate(lines, 1))


def fields(*texts):
    """Return each text in UTF-8 behind its length in four bytes."""
    return b"".join(len(text.encode()).to_bytes(4, "big") + text.encode() for text in texts)


class Log(list):
    """One account's checkpoints (position, time, digest), the last first, and its log so far."""

    position = at_us = agreeing = newest_us = 0
    digest, wrong, differing = bytes(32), None, None

    def add(self, row):
        """Check the event that follows, and the checkpoints at its position."""
        expected = self.position + 1
        try:
            account, position, moment, *words = row[:-1]
            at_us = us_of(moment) if isinstance(moment, str) else int(moment.scaleb(6))
            content = fields("1", account, f"{position:d}", f"{at_us}", words[0] or "", *words[1:])
            digest = hashlib.sha256(self.digest + content).digest()
        except UNREADABLE:
            digest = 0  # what no row holds
        position = row[1] if type(row[1]) is int else expected
        if position != expected or digest != row[-1]:
            self.wrong = min(position, expected), "altered", f"doesn't follow {self.position}"
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
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if key not in trusted:
        return "unknown_key" if key else "unsigned"
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, signed)
    except InvalidSignature:
        return "bad_signature"
    return None


def read_checkpoints(files, trusted, logs):
    """Give each log its checkpoints; return what is wrong with them, the first of each kind."""
    wrong = {}
    for file, number, line in lines_of(files):
        bare, finding = line.strip(b" \t\r\n\0"), "unreadable"
        if not bare.endswith(b"}"):
            continue  # empty, or torn by a crash
        try:
            line = json.loads(bare)
            names = ("account", "format", "position", "digest", "at", "key", "signature")
            account, kind, position, digest, at, key, signature = texts = [line[n] for n in names]
            checkpoint = (position, us_of(at[:-1].replace("T", " ")), bytes.fromhex(digest))
            signed = fields(kind, account, str(position), digest, at)
            if not re.fullmatch(LINE, json.dumps(texts)):
                raise ValueError(texts)
            finding = trusted and distrust(key, bytes.fromhex(signature or ""), signed, trusted)
        except UNREADABLE:
            account = position = None
        if not finding:
            logs[account].append(checkpoint)
        else:
            where = {"account": account, "position": position, "file": file, "line": number}
            wrong.setdefault(finding, {"result": "damaged", "finding": finding} | where)
    for log in logs.values():
        log.sort(reverse=True)
    return list(wrong.values())


def verify(asked):
    """Return what there is to report, in dictionaries."""
    keys = (line.partition(b"#")[0].strip() for _, _, line in lines_of(asked.public_keys))
    trusted = {key.decode().lower() for key in keys if key}
    if asked.public_keys and {len(bytes.fromhex(key)) for key in trusted} != {32}:
        raise ValueError("a file of public keys has one on each line, as 64 hex digits")
    logs, signatures = defaultdict(Log), "checked" if trusted else "unchecked"
    found = read_checkpoints(asked.checkpoints, trusted, logs)
    for row in rows_of(asked.source):
        account = row[0].decode(errors="replace") if isinstance(row[0], bytes) else str(row[0])
        if not logs[account].wrong:
            logs[account].add(row)
    for account, log in sorted(logs.items()):
        row = {"account": account, "result": "sound", "position": log.position}
        row |= {"digest": log.digest.hex(), "checkpoints": log.agreeing, "signatures": signatures}
        damage, beyond = log.wrong, [] if log.wrong else [then_us for _, then_us, _ in log]
        if log.differing or beyond:
            position, at_us = log.differing or (log.position + 1, log.at_us)
            kind = "rewritten" if log.differing else "cut_tail"
            kind = "restored" if at_us > max(log.newest_us, *beyond, 0) else kind
            damage = position, kind, "a checkpoint knows another event here"
        if damage:
            row |= {"result": "damaged"} | dict(zip(DAMAGE, damage, strict=True))
        elif not log.agreeing:
            row["not_compared"] = "no checkpoint to compare with"
        found.append(row)
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
    return 1 if any(row["result"] == "damaged" for row in found) else 2 if is_lacking else 0


if __name__ == "__main__":
    sys.exit(main())
