"""What the laws share."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compile():
    """Programs compiled in half the time, to run slower: for laws that compile much."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
