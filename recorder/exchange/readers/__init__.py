"""Readers: a function per type of frame, which makes a message of the frame's members.

Each takes the frame's type and its members, and raises FieldError where one is in the way. Which
type is whose stands in the table of `recorder.exchange.parsing`.
"""
