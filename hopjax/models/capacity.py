"""Networks in arrays for more memories than they have, so that one program solves all of them."""

import dataclasses
import inspect
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from hopjax._checks import check_count, is_traced
from hopjax._errors import ArgumentError
from hopjax.models.base import OF_MEMORIES, AbstractHopfield
from hopjax.models.two_layer import AbstractSeparation, LinearSeparation, PowerSeparation

_Model = TypeVar("_Model", bound=AbstractHopfield)
_APART = LinearSeparation, PowerSeparation  # each memory neuron on its own: none at zero counts


def check_capacity(capacity: Any, model: AbstractHopfield) -> int | None:
    """As many memories as the network has, or more; None for no more than it has.

    Raises:
        TypeError, ValueError: for another number, or where a part of the network would take absent
            memories for memories.
    """
    if capacity is None:
        return None
    capacity, num_memories = check_count(capacity, "capacity"), model.memories.shape[0]
    if capacity < num_memories:
        raise ArgumentError(
            "capacity",
            f"at least the number of memories, {num_memories}",
            capacity,
            hint="ask for more from the first solve on, or forget one by without_memory",
        )
    separation = getattr(model, "separation", None)
    asked = isinstance(separation, AbstractSeparation) and type(separation) not in _APART
    for part in [model, separation] if asked else [model]:
        if not _knows(part):
            kind = type(part).__name__
            raise ArgumentError(
                "capacity",
                f"None for {kind}, which does not know absent memories",
                capacity,
                hint="AbstractHopfield says how it could; without, another number of memories "
                "compiles anew",
            )
    return capacity


def _knows(part: Any) -> bool:
    """Whether a class says itself, and does not inherit, that it leaves absent memories out."""
    return "present" in inspect.get_annotations(type(part))


def with_room(model: _Model, capacity: int | None) -> _Model:
    """The network with rows of zeros for absent memories, and with `present` in all that know it.

    Not made by its constructor, which would refuse such memories. Itself for None.
    """
    if capacity is None:
        return model
    present = jnp.asarray(np.arange(capacity) < model.memories.shape[0])
    memories, separation = lengthened(model.memories, capacity), getattr(model, "separation", None)
    others = {
        each.name: _square(array, capacity) if array.ndim == 2 else lengthened(array, capacity)
        for each in dataclasses.fields(model)
        if each.metadata == OF_MEMORIES and (array := getattr(model, each.name)) is not None
    }
    padded = _changed(model, memories=memories, present=present, **others)
    if _knows(separation):
        padded = _changed(padded, separation=_changed(separation, present=present))
    return padded


def lengthened(array: Shaped[Array | np.ndarray, "a ..."], length: int) -> Shaped[Array, "b ..."]:
    """With zeros behind it; on the host unless it is traced, where no length is compiled."""
    widths = [(0, length - array.shape[0])] + [(0, 0)] * (array.ndim - 1)
    if is_traced(array):
        return jnp.pad(array, widths)
    return _placed(np.pad(np.asarray(array), widths), array)


def _square(matrix: Shaped[Array, "a a"], length: int) -> Shaped[Array, "b b"]:
    """With zeros behind rows and columns."""
    return lengthened(lengthened(matrix, length).T, length).T


def shortened(array: Shaped[Array, "... a"], length: int) -> Shaped[Array, "... b"]:
    """The first entries along the last axis; on the host as `lengthened`."""
    if array.shape[-1] == length:
        return array
    if is_traced(array):
        return array[..., :length]
    return _placed(np.asarray(array)[..., :length], array)


def _placed(array: np.ndarray, other: Array | np.ndarray) -> Array:
    """On the device of another array, if that was chosen for it."""
    if isinstance(other, Array) and other.committed and len(other.devices()) == 1:
        return jax.device_put(array, other.sharding)
    return jax.device_put(array)


def _changed(module: Any, **changes: Any) -> Any:
    """A copy of a module with other values in some fields."""
    copied = object.__new__(type(module))
    for name, value in {**vars(module), **changes}.items():
        object.__setattr__(copied, name, value)
    return copied
