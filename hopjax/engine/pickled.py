"""How a job travels to another process: code of a notebook or a closure by value."""

import dataclasses
import inspect
import io
import pickle
import zlib
from typing import Any

import cloudpickle
import equinox as eqx

_MODULES = type(eqx.Module)  # the class of all classes that are Equinox modules


class _Pickler(cloudpickle.Pickler):
    """As cloudpickle, but for what Equinox and dataclasses know of a class by other ways."""

    def reducer_override(self, obj: Any) -> Any:
        """How a class that travels by value is made: with its fields, and not given them later."""
        if obj is dataclasses.MISSING:  # there is one, by which it is told
            return "MISSING"
        reduced = super().reducer_override(obj)
        if not isinstance(obj, _MODULES) or not isinstance(reduced, tuple) or len(reduced) < 3:
            return reduced
        make, (kind, name, bases, given, *rest), *state = reduced
        about = inspect.get_annotations(obj)
        fields = {each.name: each for each in dataclasses.fields(obj) if each.name in about}
        # Equinox looks at these when a class is made; the rest of the class follows, methods too.
        given = {**given, "__annotations__": about, **fields}
        if "__init__" in vars(obj):
            given["__init__"] = _to_follow
        return make, (kind, name, bases, given, *rest), *state


def _to_follow(self: Any, *args: Any, **kwargs: Any) -> None:
    """Stands for a method until it is there."""


def pickled(value: Any) -> bytes:
    """Anything, with the code of functions and classes that no module has."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


unpickled = pickle.loads


def squeezed(value: Any) -> bytes:
    """Arrays on their way back: histograms are mostly zeros."""
    return zlib.compress(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), level=1)


def unsqueezed(content: bytes) -> Any:
    """What was squeezed."""
    return pickle.loads(zlib.decompress(content))
