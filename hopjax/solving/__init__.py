"""One retrieval, solved by Diffrax: the only caller of `diffeqsolve`."""

from hopjax.solving.door import (
    Input as Input,
    PassageFunction as PassageFunction,
    Problem as Problem,
    SaveFunction as SaveFunction,
    check_inputs as check_inputs,
    check_methods as check_methods,
    check_problem as check_problem,
)
from hopjax.solving.exponential import ExponentialAdams as ExponentialAdams
from hopjax.solving.grid import Grid as Grid
from hopjax.solving.method import (
    is_adaptive as is_adaptive,
    levy_area_of as levy_area_of,
)
from hopjax.solving.solve import solve as solve
from hopjax.solving.trajectory import (
    DivergenceError as DivergenceError,
    Trajectory as Trajectory,
)
