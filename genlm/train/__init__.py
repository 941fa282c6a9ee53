"""LOSS -> UPDATE."""
