"""The exchange's language: frames, messages, commands, REST answers, signatures. Pure.

Guarantees: text is read without loss, amounts as Decimal and times in UTC; unreadable input is a
value and never an exception; what is sent is byte for byte what was checked.

Begin with `parsing` (text to message) and `messages` (each field declared once, with its names on
the wire). `session` is the state machine of a connection; `commands` writes what we send;
`rest_requests` and `lists` are REST.
"""
