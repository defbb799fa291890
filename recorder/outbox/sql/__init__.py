"""Choose, claim, settle and look up commands. Synchronous."""
