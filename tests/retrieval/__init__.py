"""Tests of genlm.retrieval."""
