"""Inputs of tests with what comes out of them, and the scripts that made them."""
