"""HOW GOOD IT IS."""
