"""The exchange's language: frames, messages, commands, signatures. Pure: no I/O, no clock."""
