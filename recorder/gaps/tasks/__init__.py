"""The back-filler, and how it reads each list of the exchange."""
