"""What the reference shows of a name, and links wherever a docstring has it between backticks."""

import re
from collections.abc import Iterator
from typing import Any

import griffe

_CODE = re.compile(r"(?<![`\[])`(?:hj\.)?([A-Za-z_][\w.]*)(?:\([^`]*\))?`(?!`)")
_PLACES = ("theory", "statistics", "plotting", "command")


class Links(griffe.Extension):
    """Users' names for what is defined deeper inside, and links to them."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite a package that has been read."""
        if pkg.name != "hopjax":
            return
        everything, targets, shown = list(_objects(pkg)), {}, []
        for room in (pkg, *(pkg[place] for place in _PLACES)):
            for name in list(room.members):
                known = None if name.startswith("_") else _found(pkg, room, name)
                if known is None or not (known.is_class or known.is_function):
                    continue
                path = f"{room.path}.{name}"
                shown.append((room, name, known))
                full = path.removeprefix("hopjax.")
                targets |= {full: path, name: targets.get(name, path)}
                for method, each in known.members.items():
                    if not method.startswith("_") and each.is_function and each.docstring:
                        targets[f"{name}.{method}"] = f"{path}.{method}"
        for room, name, known in shown:
            room.members[name] = griffe.Alias(name, known, parent=room)
        for known in everything:
            if known.docstring is not None:
                known.docstring.value = _linked(known, targets)


def _objects(known: Any) -> Iterator[Any]:
    """Everything that is defined in it."""
    if not known.is_alias:
        yield known
        for member in known.members.values():
            yield from _objects(member)


def _found(pkg: Any, room: Any, name: str) -> Any:
    """What a name of a module stands for, where a module inside may have the same name."""
    member, source = room.members[name], room.imports.get(name)
    own = source in (None, f"{room.path}.{name}")
    if not member.is_alias and (own or not member.is_module):
        return member
    if source is None or not source.startswith("hopjax."):
        return None
    *places, last = source.split(".")[1:]
    inner = pkg
    for place in places:
        inner = inner.members[place]
    return _found(pkg, inner, last) if last in inner.members else None


def _linked(known: Any, targets: dict[str, str]) -> str:
    """A docstring with links, but not inside its examples, nor to itself."""

    def link(found: re.Match) -> str:
        name = found.group(1)
        if name not in targets or name == known.name:
            return found.group(0)
        return f"[{found.group(0)}][{targets[name]}]"

    parts = re.split(r"(```.*?```)", known.docstring.value, flags=re.DOTALL)
    return "".join(each if each.startswith("```") else _CODE.sub(link, each) for each in parts)
