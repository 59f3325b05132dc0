"""What all tests share: float64, and processes that forget."""

import gc
from pathlib import Path

import jax
import pytest
import quickly  # noqa: F401  # how programs are compiled
from resident import KNOWN, resident

ROOT = Path(__file__).resolve().parents[1]
ENOUGH = 3 * 2**29  # bytes of a process

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 2)  # so that splitting over devices can be tested
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def forgetting():
    """Give back what was compiled, once that is much: a process has a limit."""
    yield
    if not KNOWN or resident() >= ENOUGH:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def optimised():
    """Compile as users do: for tests that run long, or compare the last digits of noise."""


@pytest.fixture(autouse=True)
def compiling(request):
    """What was compiled in the other way is not used."""
    fast = "optimised" not in request.fixturenames
    if fast != jax.config.read("jax_disable_most_optimizations"):
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", fast)


# Relative tolerance of float64 algebra: two ways of writing one formula.
EXACT = 1e-10
