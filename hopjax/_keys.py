"""Every rule by which keys are made from keys: what is random depends on nothing else."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

IMPLEMENTATION = "threefry2x32"


def trial_key(key: Key[Array, ""], number: int | Int[Array, ""]) -> Key[Array, ""]:
    """The key of a trial: the first of more trials are the same."""
    return jax.random.fold_in(key, number)


def setting_and_noise(key: Key[Array, ""]) -> tuple[Key[Array, ""], Key[Array, ""]]:
    """Of a trial's key, that of what the trial is and that of its noise."""
    setting_key, noise_key = jax.random.split(key)
    return setting_key, noise_key


def input_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """Of a solve's key, that of the noise on its input; noise on the state folds in low numbers."""
    return jax.random.fold_in(key, np.uint32(2**32 - 1))


def cell_key(key: Key[Array, ""], digest: str) -> Key[Array, ""]:
    """The key of a study's cell: the first 128 bits of the hash of its parameters folded in."""
    for start in range(0, 32, 8):
        key = jax.random.fold_in(key, np.uint32(int(digest[start : start + 8], 16)))
    return key


class TuningKeys(NamedTuple):
    """Of the key of a tuning, that of its steps and that of what comes after them."""

    steps: Key[Array, ""]
    after: Key[Array, ""]

    @classmethod
    def of(cls, key: Key[Array, ""]) -> "TuningKeys":
        """The halves of a key."""
        return cls(*jax.random.split(key))

    def step(self, number: int) -> Key[Array, ""]:
        """Of the trials of a step."""
        return jax.random.fold_in(self.steps, number)

    @property
    def verification(self) -> Key[Array, ""]:
        """Of the trials that say how often the result retrieves."""
        return jax.random.fold_in(self.after, 0)

    def batch(self, number: int) -> Key[Array, ""]:
        """Of a batch of the trials that refine the result."""
        return jax.random.fold_in(jax.random.fold_in(self.after, 1), number)

    @property
    def choice(self) -> Key[Array, ""]:
        """Of the trials by which candidates are compared."""
        return jax.random.fold_in(self.after, 2)


def data_of(key: Key[Array, ""]) -> UInt32[np.ndarray, "2"]:
    """A key as numbers on the host."""
    return np.asarray(jax.random.key_data(key))


def key_of(data: UInt32[Array, "2"]) -> Key[Array, ""]:
    """The key that numbers are."""
    return jax.random.wrap_key_data(data, impl=IMPLEMENTATION)
