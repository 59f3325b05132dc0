"""The command `hopjax`: studies and tunings from files."""
