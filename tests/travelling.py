"""Classes that travel by value, as those of a notebook do."""

import dataclasses
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp


class Scaled(eqx.Module):
    """With a converter, a default, and a method that names its own class."""

    factor: jax.Array = eqx.field(converter=jnp.asarray)
    name: str = eqx.field(static=True, default="scaled")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.factor * x

    def twice(self) -> "Scaled":
        return Scaled(2 * self.factor)


@dataclasses.dataclass
class Plain:
    """An ordinary dataclass."""

    first: int
    second: list[int] = dataclasses.field(default_factory=lambda: [5])


SCRIPT = """
    import dataclasses, pickle, sys
    import jax
    scaled, plain = pickle.loads(bytes.fromhex(sys.stdin.read()))
    new = type(scaled)(4.0)  # a module is made anew in every trial
    frozen = dataclasses.fields(type(plain))[0].default is dataclasses.MISSING
    assert jax.tree.leaves(new) == [4.0] and new.name == "scaled"
    second = type(plain)(1).second[0]
    three = jax.jit(lambda module: module(3.0))(scaled)
    print([float(three), float(new.twice().factor), plain.first, second, frozen])
"""


def in_another_process(content: bytes) -> str:
    """What a process says that has not seen this module."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        input=content.hex(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
