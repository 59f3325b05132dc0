"""What all tests share: float64, and processes that forget."""

import gc
from pathlib import Path

import jax
import pytest
from jax._src import compiler

ROOT = Path(__file__).resolve().parents[1]

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 2)  # so that splitting over devices can be tested

# Most tests compile more than they run, and XLA's newer way for a CPU takes twice as long. (In the
# older way without optimisations the inverse of the error function is only good to some 1e-7.)
_QUICKLY = [("xla_cpu_use_fusion_emitters", False), ("xla_cpu_parallel_codegen_split_count", 1)]
_options = compiler.get_compile_options


def _quick_options(*args, **settings):
    options = _options(*args, **settings)
    if jax.config.read("jax_disable_most_optimizations"):
        options.env_option_overrides = [*options.env_option_overrides, *_QUICKLY]
    return options


compiler.get_compile_options = _quick_options
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def forgetting():
    """Give back what a file's tests compiled: no other file uses it, and a process has a limit."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def optimised():
    """Compile as users do: for tests that run long, or compare the last digits of noise."""


@pytest.fixture(autouse=True)
def compiling(request):
    """What was compiled in the other way is not used."""
    quickly = "optimised" not in request.fixturenames
    if quickly != jax.config.read("jax_disable_most_optimizations"):
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", quickly)


# Relative tolerance of float64 algebra: two ways of writing one formula.
EXACT = 1e-10
