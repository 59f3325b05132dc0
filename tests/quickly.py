"""Compiling fast, for tests, most of which compile more than they run.

Where `jax_disable_most_optimizations` is set XLA compiles for a CPU in its older way too, which
takes half of the time. There the inverse of the error function is only good to some 1e-7.
"""

from jax import config
from jax._src import compiler

_QUICKLY = [("xla_cpu_use_fusion_emitters", False), ("xla_cpu_parallel_codegen_split_count", 1)]
_options = compiler.get_compile_options


def _quick_options(*args, **settings):
    options = _options(*args, **settings)
    if config.read("jax_disable_most_optimizations"):
        options.env_option_overrides = [*options.env_option_overrides, *_QUICKLY]
    return options


compiler.get_compile_options = _quick_options
