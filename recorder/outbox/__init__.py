"""The outbox, pure: what may become of a command, which goes next, what a message proves."""
