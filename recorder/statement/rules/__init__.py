"""The report as values, its caveats, its page and charts. Pure."""
