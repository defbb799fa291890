"""One module for each projection, and the fold that they share. Pure."""
