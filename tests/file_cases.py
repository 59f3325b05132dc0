"""Files with one key set to a value of any kind, and by which rule of its own that is right."""

import math
from collections.abc import Callable, Iterator
from typing import Any

# As it is written, and as Python has it; a date is any object that is no number.
DATE = object()
VALUES: dict[str, Any] = {
    "true": True,
    "false": False,
    **{text: int(text) for text in ("0", "1", "2", "3", "-1", "3000000000", "1000000000000")},
    **{text: int(text) for text in ("9223372036854775808", f"1{'0' * 30}", f"1{'0' * 400}")},
    f"0x1{'0' * 5000}": 2**20000,
    **{text: float(text) for text in ("0.0", "-0.0", "0.1", "0.5", "1.0", "1.5", "-1.0")},
    **{text: float(text) for text in ("1e-300", "1e39", "-1e39", "1e300", "inf", "-inf", "nan")},
    **{f'"{text}"': text for text in ("", "a", "01", "\\u0000", "idp", "memory", "two_point")},
    **{f'"{text}"': text for text in ("tanh", "random", "balanced", "instants", "forward", "adam")},
    **{f'"{text}"': text for text in ("retrieval", "exponential")},
    "[]": [],
    "[0]": [0],
    "[0.0]": [0.0],
    "[0, 1]": [0, 1],
    "[1, 0]": [1, 0],
    "[true]": [True],
    "[0.5, nan]": [0.5, math.nan],
    "[1e39]": [1e39],
    f"[1{'0' * 400}]": [10**400],
    '["a"]': ["a"],
    '["noise"]': ["noise"],
    "[[0.0]]": [[0.0]],
    "[[0, 1], [1, 0]]": [[0, 1], [1, 0]],
    "[[0], [1, 2]]": [[0], [1, 2]],
    "[0, [1]]": [0, [1]],
    "{}": {},
    "{ a = 1 }": {"a": 1},
    "{ start = 0, stop = 1, num = 1000000000000 }": {"start": 0, "stop": 1, "num": 10**12},
    "{ start = 0.5, low = 0.0 }": {"start": 0.5, "low": 0.0},
    "2025-01-01": DATE,
    "[[[[[]]]]]": [[[[[]]]]],
    f"{'[' * 5000}{']' * 5000}": DATE,
    f"{'{ a = ' * 300}1{' }' * 300}": DATE,
}
LARGEST, LARGEST_OF_FLOAT32 = 1.7976931348623157e308, 3.4028234663852886e38

Right = Callable[[Any], bool | None]  # None where it depends on the machine


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= LARGEST


def is_small(value: Any) -> bool:
    """A number for what is float32 always: the weights of the memories."""
    return is_number(value) and abs(value) <= LARGEST_OF_FLOAT32


def number(good: Callable[[float], bool] = lambda value: True) -> Right:
    return lambda value: is_number(value) and good(value)


def whole(low: int, high: float = math.inf) -> Right:
    return lambda value: type(value) is int and low <= value < high


def one_of(*texts: str) -> Right:
    return lambda value: isinstance(value, str) and value in texts


def truth(value: Any) -> bool:
    return isinstance(value, bool)


def several(each: Right, *sizes: int) -> Right:
    return lambda value: isinstance(value, list) and len(value) in sizes and all(map(each, value))


def weight(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2 and all(map(is_small, value))
    return is_small(value) or (pair and value[0] <= value[1])


def levels(value: Any) -> bool:
    numbers = isinstance(value, list) and all(map(is_number, value))
    return numbers and value == sorted(set(value)) and all(0 <= each <= 1 for each in value)


def either(*rules: Right) -> Right:
    return lambda value: any(rule(value) for rule in rules)


def steps(value: Any) -> bool | None:
    """Of a length from dt = .1 to t1 = 1, or an end of few enough steps."""
    if not is_number(value) or not 0.09 < value < 1e15:
        return False
    return None if value > 1e6 else abs(value / 0.1 - round(value / 0.1)) < 1e-6


memory = whole(0, 2)
CRITERION: dict[str, Right] = {
    "threshold": number(lambda value: 0 < value < 1),
    "mixed": number(lambda value: 0 < value <= 0.9),
    "settle": number(lambda value: 0 <= value <= 1),
    "since": number(lambda value: 0 <= value < 1),
    "mirror": truth,
    "judge": one_of("mean", "instants"),
    "amplitude": number(lambda value: value >= 0),
}
TRIAL: dict[str, Right] = {
    "model": one_of("idp"),
    "num_neurons": whole(1, 2**31),
    "num_memories": whole(1, 2**31),
    "memory_load": number(lambda value: 0 < value <= 1),
    "memories": one_of("random"),
    "correlation": number(lambda value: 0 <= value <= 1),
    "activation": one_of("tanh"),
    "slope": number(lambda value: value > 0),
    "self_coupling": truth,
    "memory_time_constant": number(lambda value: value > 0),
    "power": number(lambda value: value >= 2),
    "beta": number(lambda value: value > 0),
    "gain": number(lambda value: value >= 0),
    "time_constant": number(lambda value: value > 0),
    "cyclic": truth,
    "transitions": several(several(lambda value: is_small(value) and value >= 0, 2), 2),
    "initial_saliencies": several(lambda value: is_small(value), 2),
    "input_noise": number(lambda value: value >= 0),
    "input_correlation_time": number(lambda value: value >= 0.1),  # beside noise; at least dt
    "noise": number(lambda value: value >= 0),
    "law": one_of("two_point"),
    "onsets": several(number(lambda value: value == 0), 1),
    "shown": several(memory, 1),
    "dominant": weight,
    "background": weight,
    "previous": weight,
    "total_weight": lambda value: value == "balanced" or (is_small(value) and value > 0),
    "strength": lambda value: is_small(value) and value >= 0,
    "pulse": number(lambda value: value > 0),
    "start": one_of("memory"),
    "start_memory": memory,
    "start_scale": number(lambda value: value > 0),
    "corruption": number(lambda value: 0 <= value <= 1),
    "target": either(memory, several(memory, 1, 2)),
}
TIMES: dict[str, Right] = {
    "t1": steps,
    "dt": lambda value: None if value == 1e-300 else is_number(value) and value in (0.1, 0.5, 1.0),
    "save_every": lambda value: steps(value) and value <= 1,
}
COUNT = whole(1, 2**31)
CHUNK: Right = lambda value: None if value == 3000000000 else whole(1, 10**9)(value)  # noqa: E731


def swept_total(value: Any) -> bool | None:
    """What is whole stays so, and is kept in 64 bits."""
    return TRIAL["total_weight"](value) and not (type(value) is int and value >= 2**63)


STUDY: dict[str, dict[str, Right]] = {
    "": TIMES
    | {
        "trials": COUNT,
        "seed": whole(0, 2**63),
        **dict.fromkeys(
            ("paired", "static"), lambda value: value in ([], ["noise"]) and value != [True]
        ),
        "chunk": CHUNK,
        "quantiles": levels,
        "solver": one_of("exponential"),
    },
    "criterion": CRITERION,
    "trial": {name: right for name, right in TRIAL.items() if name != "noise"},
    **dict.fromkeys(("sweep", "cells"), TRIAL | TIMES | {"total_weight": swept_total}),
}
TUNABLE = (
    "slope",
    "noise",
    "dominant",
    "background",
    "previous",
    "strength",
    "start_scale",
    "power",
)


def tuned(name: str) -> Right:
    """A start that is a number in its range, or one with bounds."""

    def right(value: Any) -> bool | None:
        if isinstance(value, dict):
            return value == {"start": 0.5, "low": 0.0} and TRIAL[name](0.5)
        return TRIAL[name](value)

    return right


LOSS = {
    "weight": number(),
    "temperature": number(lambda value: value > 0),
    "straight_through": truth,
    "goal": number(lambda value: 0 <= value <= 1),
    "at_least": number(lambda value: 0 <= value <= 1),
}
TUNE: dict[str, dict[str, Right]] = {
    "": TIMES
    | {
        "seed": whole(0, 2**63),
        **dict.fromkeys(("trials", "steps", "verify"), COUNT),
        "window": whole(1),
        "tolerance": number(lambda value: value > 0),
        "fresh": truth,
        "mode": one_of("forward"),
        "chunk": CHUNK,
        "optimiser": one_of("adam"),
        "learning_rate": number(lambda value: value > 0),
        "solver": one_of("exponential"),
    },
    "criterion": CRITERION,
    "trial": {name: right for name, right in TRIAL.items() if name != "strength"},
    "tune": {name: tuned(name) for name in TUNABLE},
    "loss": {"kind": one_of("retrieval"), **LOSS},
}
BASE = {
    "study": {
        "": {"trials": "4", "seed": "1", "t1": "1.0", "dt": "0.1"},
        "criterion": {},
        "trial": {"num_neurons": "8", "num_memories": "2"},
        "sweep": {"noise": "[0.5]"},
    },
    "tune": {
        "": {"seed": "1", "t1": "1.0", "dt": "0.1", "trials": "4"},
        "criterion": {},
        "trial": {"num_neurons": "8", "num_memories": "2", "start": '"memory"'},
        "tune": {"strength": "2.0"},
        "loss": {"kind": '"retrieval"'},
    },
}
LISTS = ("cells", "loss")
# What else may be named: the two do not fit each other.
WITH = {
    "dt": {"t1"},
    "num_neurons": {"num_memories"},
    "learning_rate": {"optimiser"},
    "optimiser": {"learning_rate"},
}


def written(kind: str, table: str, key: str, value: str) -> tuple[str, int]:
    """A file with one key set, and the line that it is on."""
    content = {name: dict(keys) for name, keys in BASE[kind].items()}
    if table == "cells":
        del content["sweep"]
    if table in ("cells", "sweep", "tune"):
        content[table] = {}
        for other in ("", "trial"):
            content[other].pop(key, None)
    content.setdefault(table, {})[key] = value
    if key == "input_correlation_time":
        content["trial"] = {"input_noise": "0.5"} | content["trial"]
    if kind == "tune" and key in ("optimiser", "learning_rate"):
        content[""] = {"optimiser": '"adam"', "learning_rate": "0.1"} | content[""]
    lines, place = [], 0
    for name, keys in content.items():
        if name:
            lines.append(f"[[{name}]]" if name in LISTS else f"[{name}]")
        for each, text in keys.items():
            lines.append(f"{each} = {text}")
            if (name, each) == (table, key):
                place = len(lines)
    return "\n".join([*lines, ""]), place


HALVED = [("study", "sweep"), ("study", "cells"), ("tune", "trial"), ("tune", "criterion")]
ACCEPTED = 4  # of each key: what is right takes ten times as long


def cases(kind: str, table: str, key: str) -> Iterator[tuple[str, bool | None]]:
    """Values as written, and whether they are right."""
    rule = (STUDY if kind == "study" else TUNE)[table][key]
    found = [(text, value is not DATE and rule(value)) for text, value in VALUES.items()]
    right = [case for case in found if case[1]]
    wrong = [case for case in found if not case[1]]
    every = -(-len(right) // ACCEPTED)
    found = right[len(key) % every :: every] + wrong[:: 1 + ((kind, table) in HALVED)]
    if table != "sweep":
        yield from found
        return
    for text, right in found:
        yield f"[{text}]", right
        if not text.startswith("["):  # a sweep is a list of values
            yield text, False
    yield "{ start = 0.3, stop = 0.2, num = 2 }", rule(0.3) and rule(0.2)
