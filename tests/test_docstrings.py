"""The examples of docstrings run, one after the other in one process, and print what they say."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from docs import examples

# What an example may take for granted.
BEFORE = """
import hopjax as hj
import jax
import jax.numpy as jnp
from hopjax import theory

key, pattern_key, start_key = jax.random.split(jax.random.key(0), 3)
memories = hj.orthogonal_memories(num_memories=3, num_neurons=64)
model = hj.IDPHopfield(memories)
weights = jnp.array([[3.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 3.0]])
u = hj.mixture(memories, weights[0])
x0 = jax.random.normal(start_key, (64,))
pattern = hj.random_memories(pattern_key, num_memories=1, num_neurons=64)[0]


def trial(key):
    return hj.Trial(model, u, jax.random.normal(key, (64,)), hj.AdditiveNoise(0.5))
"""


def found(file: Path) -> Iterator[examples.Block]:
    """The examples of a file, with their lines."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, documented) and ast.get_docstring(node):
            text = node.body[0]
            assert isinstance(text, ast.Expr)
            assert isinstance(text.value, ast.Constant)
            # Sections of a docstring are indented.
            plain = re.sub(
                r"^    ", "", inspect.cleandoc(str(text.value.value)), flags=re.MULTILINE
            )
            for block in examples.blocks(file, f"{plain}\n"):
                # Fewer trials: what is printed depends on none.
                code = re.sub(r"\btrials=\d+", "trials=4", block.code)
                yield block._replace(line=block.line + text.lineno - 1, code=code)


EXAMPLES = [block for file in sorted((ROOT / "hopjax").rglob("*.py")) for block in found(file)]


def test_every_example_is_found():
    fences = [
        file.read_text("utf-8").count("```python") for file in (ROOT / "hopjax").rglob("*.py")
    ]
    assert len(EXAMPLES) == sum(fences) >= 20


@pytest.mark.slow
def test_examples_print_what_they_say():
    # Each has names of its own.
    before = examples.Block(__file__, 1, BEFORE, "", [])
    code = [block for each in EXAMPLES for block in (before, each)]
    ran = examples.run(code, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    printed = [each._replace(pictures=[]) for each in ran]
    assert examples.compare(code, printed) == []
