"""The commander, the dry run, the resolver, and what wakes them."""
