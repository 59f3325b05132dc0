"""The names in code: what it looks up and imports, and what belongs to packages."""

import dis
import functools
import importlib
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

_INSTALLED = tuple(
    dict.fromkeys(
        sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
)


@functools.cache
def is_installed(module: Any) -> bool:
    """Whether a module belongs to Python or to a package that was installed, hopjax included."""
    if not isinstance(module, str):  # of a compiled class
        return True
    top = module.partition(".")[0]
    if top in ("hopjax", "__main__"):
        return top == "hopjax"
    while "." in module and module not in sys.modules:  # part of one that was compiled
        module = module.rpartition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    return is_installed_file(file)


def is_installed_file(file: str) -> bool:
    """Whether a file is one of Python or of an installed package."""
    return "site-packages" in file or "dist-packages" in file or file.startswith(_INSTALLED)


@functools.lru_cache(maxsize=2**14)
def names_in(code: types.CodeType) -> tuple[tuple[str, ...], tuple[tuple[int, str, Any], ...]]:
    """The names that code looks up in its module; and what it imports: level, name and parts."""
    named, imports, before = {}, [], [None, None]
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            named[step.argval] = None
        elif step.opname == "IMPORT_NAME":
            level, parts = before
            imports.append((level, step.argval, parts or ()))
        before = [before[1], step.argval]
    return tuple(named), tuple(imports)


def all_names(code: types.CodeType) -> tuple[str, ...]:
    """The names in code, also in that of functions inside it."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return code.co_names + tuple(name for each in inner for name in all_names(each))


def imported(name: str, known: Mapping[str, Any], load: bool) -> types.ModuleType | None:
    """A module of the user's that code imports itself; `load` if that is still to come."""
    try:
        name = importlib.util.resolve_name(name, known.get("__package__") or "")
        if name not in sys.modules and load:
            top = importlib.util.find_spec(name.partition(".")[0])
            if top is not None and not is_installed_file(top.origin or ""):
                importlib.import_module(name)
    except Exception:  # whatever it does where it is imported
        return None
    module = sys.modules.get(name)
    return None if module is None or is_installed(name) else module
