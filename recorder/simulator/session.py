"""What one client and the exchange report to each other, from the upgrade to the end.

Credentials are checked the way VALR's documents describe. What is signed is the time in
milliseconds, the verb, the path with its query, the body, and the sub-account's id if the header
that names it was sent; the key of the HMAC is the secret's own text.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import trio
from attrs import field, frozen

from recorder.simulator.activity import flood
from recorder.simulator.config import SimulatorConfig
from recorder.simulator.engine import ANSWERS
from recorder.simulator.frames import Frame, encode
from recorder.simulator.hub import Simulator
from recorder.simulator.peer import Peer

PATH = "/ws/account"
#: Frames that a client may choose not to get.
MUTABLE = ("MARGIN_INFO", "BALANCE_UPDATE", "OPEN_ORDERS_UPDATE")
UNSUPPORTED: Frame = {"type": "UNSUPPORTED", "message": "Unsupported message"}


async def converse(simulator: Simulator, peer: Peer, *, needs_frame: bool) -> None:
    """Serve a client until either side has enough; ``needs_frame``: it has shown no key yet."""
    simulator.peers.append(peer)
    try:
        if needs_frame and not await _authenticate(simulator, peer):
            simulator.refused += 1
            await peer.close_politely(1008, "Unauthorized")
            return
        async with trio.open_nursery() as nursery:
            if not simulator.faults.withhold_authenticated:
                _welcome(simulator, peer)
                nursery.start_soon(flood, simulator, peer)
            while (text := await _receive(simulator, peer)) is not None:
                _take_frame(simulator, peer, decode(text))
            nursery.cancel_scope.cancel()
    finally:
        simulator.peers.remove(peer)
        if peer.cancels_on_disconnect:
            simulator.send(simulator.exchange.cancel_all())


def decode(text: str) -> Frame:
    """Return a client's frame, empty where it is none."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return frame if isinstance(frame, dict) else {}


def credentials_refusal(simulator: Simulator, claim: Claim, path: str = PATH) -> Refusal | None:
    """Return why a claim doesn't open the account's channel, or None."""
    now_ms = int(simulator.now().timestamp() * 1000)
    return refusal(simulator.config, claim, now_ms, "GET", path)


async def _receive(simulator: Simulator, peer: Peer) -> str | None:
    """Return the next frame; None at the end, which an idle client is brought to."""
    try:
        return await peer.receive(simulator.config.idle_s)
    except trio.TooSlowError:
        await peer.close_politely(1000)
        return None


async def _authenticate(simulator: Simulator, peer: Peer) -> bool:
    """Wait for an AUTHENTICATE frame; True if it opens the account."""
    with trio.move_on_after(simulator.config.auth_deadline_s):
        while (text := await _receive(simulator, peer)) is not None:
            frame = decode(text)
            if frame.get("type") == "AUTHENTICATE":
                claim = _claim(frame.get("payload"))
                return claim is not None and credentials_refusal(simulator, claim) is None
            is_ping = frame.get("type") == "PING"
            peer.post(encode({"type": "PONG"} if is_ping else UNSUPPORTED))
    return False


def _claim(payload: Any) -> Claim | None:
    if not isinstance(payload, dict):
        return None
    shown = [payload.get(name, "") for name in ("apiKey", "signature", "timestamp", "subAccountId")]
    # The time comes as a number.
    return Claim(*(str(each) if isinstance(each, (str, int)) else "" for each in shown))


def _welcome(simulator: Simulator, peer: Peer) -> None:
    """Post the snapshot and let the peer in, in one step: no frame can come in between."""
    peer.is_authenticated = True
    for frame in ({"type": "AUTHENTICATED"}, *simulator.exchange.snapshot()):
        is_empty_list = frame["type"] == "OPEN_ORDERS_UPDATE" and not frame["data"]
        if not (is_empty_list and simulator.faults.no_empty_list):
            peer.post(encode(frame))


def _take_frame(simulator: Simulator, peer: Peer, frame: Frame) -> None:
    kind = frame.get("type")
    if kind == "PING":
        if not simulator.faults.no_pong:
            peer.post(encode({"type": "PONG"}))
    elif not isinstance(kind, str) or not peer.is_authenticated:
        peer.post(encode(UNSUPPORTED))
    elif kind in ANSWERS:
        _command(simulator, peer, frame)
    else:
        peer.post(encode(_setting(peer, kind, frame)))


def _setting(peer: Peer, kind: str, frame: Frame) -> Frame:
    """Take what a client wants of its own connection, and return the answer."""
    if kind == "CANCEL_ON_DISCONNECT":
        payload = frame.get("payload")
        wanted = payload.get("cancelOnDisconnect") if isinstance(payload, dict) else None
        if not isinstance(wanted, bool):
            return UNSUPPORTED
        peer.cancels_on_disconnect = wanted
        # A string, as published.
        members = {"cancelOnDisconnect": "true" if wanted else "false"}
        return {"type": "CANCEL_ON_DISCONNECT_UPDATE", "data": members}
    member = {"SUBSCRIBE": "subscriptions", "UNSUBSCRIBE": "requests"}.get(kind)
    events = _events(frame.get(member)) if member else None
    if events is None:
        return UNSUPPORTED
    if kind == "SUBSCRIBE":
        peer.muted -= events
        return {"type": "SUBSCRIBED", "message": f"Subscribed to {', '.join(sorted(events))}"}
    peer.muted |= events & set(MUTABLE)
    return {"type": "UNSUBSCRIBED", "message": f"Unsubscribed from {', '.join(sorted(events))}"}


def _events(wanted: Any) -> set[str] | None:
    """Return the names in ``[{"event": name}, …]``, or None for anything else."""
    if not isinstance(wanted, list) or not all(isinstance(each, dict) for each in wanted):
        return None
    names = [each.get("event") for each in wanted]
    is_fine = all(isinstance(name, str) and name.isascii() for name in names)
    return set(names) if is_fine else None


def _command(simulator: Simulator, peer: Peer, frame: Frame) -> None:
    """Carry a command out. The answer goes to its sender, what follows to all."""
    fault, exchange = simulator.faults.take_command_fault(), simulator.exchange
    if fault == "lose_command":
        return
    if fault == "answer_without_order":
        peer.post(encode(exchange.acknowledge_only(frame)[0]))
        return
    answer, *outcome = exchange.command(frame)
    if fault == "accept_then_cut":
        peer.cut(reset=True)
        return
    if fault != "swallow_answer":
        peer.post(encode(answer))
    if fault != "swallow_outcome":
        simulator.send(outcome)


#: Digits of a time in milliseconds, with room until the year 5138.
TIMESTAMP_DIGITS_MAX = 14


@frozen
class Claim:
    """What a client shows: in headers, or in an AUTHENTICATE frame."""

    key: str
    signature: str = field(repr=False)
    timestamp: str
    sub_account_id: str = ""

    @classmethod
    def in_headers(cls, headers: Mapping[str, str]) -> Claim:
        """Return the claim in headers, whose names are in lower case."""
        names = ("api-key", "signature", "timestamp", "sub-account-id")
        return cls(*(headers.get(f"x-valr-{name}", "") for name in names))

    @property
    def is_empty(self) -> bool:
        """True if nothing was shown at all."""
        return not (self.key or self.signature or self.timestamp)


@frozen
class Refusal:
    """Why a claim isn't accepted: HTTP status, VALR's code, and text for a person."""

    status: int
    code: int
    message: str

    @property
    def is_of_signature(self) -> bool:
        """True if the key is known, so that VALR may first accept an upgrade and then close it."""
        return self.code == BAD_SIGNATURE


BAD_SIGNATURE = -11252
_NOTHING = Refusal(403, -1, "API key, signature and timestamp are required")
_UNKNOWN = Refusal(401, -1, "Unauthorized")
_STALE = Refusal(401, BAD_SIGNATURE, "Request timestamp is outside the allowed window")
_WRONG = Refusal(401, BAD_SIGNATURE, "Request has an invalid signature")


def sign(secret: str, timestamp: str, verb: str, path: str, body: bytes, sub_account: str) -> str:
    """Return the signature that a request has to carry."""
    head, tail = f"{timestamp}{verb}{path}".encode(), sub_account.encode()
    return hmac.new(secret.encode(), head + body + tail, hashlib.sha512).hexdigest()


def refusal(
    config: SimulatorConfig, claim: Claim, now_ms: int, verb: str, path: str, body: bytes = b""
) -> Refusal | None:
    """Return why a request may not be answered, or None."""
    if not (claim.key and claim.signature and claim.timestamp):
        return _NOTHING
    if claim.key != config.key or claim.sub_account_id not in ("", config.sub_account_id):
        return _UNKNOWN
    if not _is_fresh(claim.timestamp, now_ms, config.time_window_s):
        return _STALE
    expected = sign(config.secret, claim.timestamp, verb, path, body, claim.sub_account_id)
    given = claim.signature.encode(errors="backslashreplace")
    return None if hmac.compare_digest(expected.encode(), given) else _WRONG


def _is_fresh(timestamp: str, now_ms: int, window_s: float) -> bool:
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > TIMESTAMP_DIGITS_MAX:
        return False
    return abs(int(timestamp) - now_ms) <= window_s * 1000
