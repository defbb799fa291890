"""Requests to the exchange over REST, and their record in the log.

Guarantees: an answer and the note of its request are one transaction, byte for byte; each request
is sent at most once, at the account's rate, to the configured host alone; key and signature are in
no message.

Begin with `recorded_fetch`, which the back-fill, the reconciler and the resolver of commands in
doubt share. `client` makes one request.
"""
