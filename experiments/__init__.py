"""Recipes: data only. Each states its command, hardware, time and expected result."""
