"""What all tests share: float64, and processes that forget."""

import gc
import os
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Most tests compile more than they run, and XLA's newer way for a CPU takes twice as long.
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}".rstrip()

jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 2)  # so that splitting over devices can be tested


@pytest.fixture(scope="module", autouse=True)
def forgetting():
    """Give back what a file's tests compiled: no other file uses it, and a process has a limit."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def optimised():
    """Compile as users do, for tests that run long."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


# Relative tolerance of float64 algebra: two ways of writing one formula.
EXACT = 1e-10
