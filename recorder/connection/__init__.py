"""The WebSocket connection of an account: one task owns its socket.

Guarantees: every frame is recorded as received, with two clocks, before anything else is done with
it; nothing is read while the log is full; a sent frame has its event first. Time that was not
observed is noted with its cause.

Begin with `connection`, the task; it drives `recorder.exchange.session`, which decides. `socket`
and `wire` open and read the socket, `observation` keeps what is certain.
"""
