"""One trial of many: what it is, what counts as retrieved, and how it is solved."""

from hopjax.trials.criterion import (
    OUTCOMES as OUTCOMES,
    Criterion as Criterion,
)
from hopjax.trials.draws import (
    called as called,
    check_draws as check_draws,
    uncompiled as uncompiled,
)
from hopjax.trials.parameters import (
    fractional as fractional,
    inside_partial as inside_partial,
    marked as marked,
    needed_as_numbers as needed_as_numbers,
)
from hopjax.trials.trial import (
    Trial as Trial,
    blank_trajectory as blank_trajectory,
    default_target as default_target,
    solve_trial as solve_trial,
)
from hopjax.trials.visits import Visits as Visits
