"""The log and the tables as files, and the log back from them.

Guarantees: a folder appears when it is complete; an exported log proves itself; an import is one
transaction, byte for byte, or nothing. Memory does not grow with the log.

Begin with `writing` and `loading`; `manifest` names and proves the files, `formats` writes values.
"""
