"""Many trials of one setting, and their statistics."""

from hopjax.ensemble.convergence import (
    Change as Change,
    Convergence as Convergence,
    check_convergence as check_convergence,
)
from hopjax.ensemble.plan import (
    Asked as Asked,
    Plan as Plan,
    check_trial as check_trial,
    standard_reductions as standard_reductions,
)
from hopjax.ensemble.reductions import (
    AbstractReduction as AbstractReduction,
    Histogram as Histogram,
    Moments as Moments,
    Partial as Partial,
    PerTrial as PerTrial,
    Totals as Totals,
)
from hopjax.ensemble.result import (
    RESERVED as RESERVED,
    Ensemble as Ensemble,
    Variable as Variable,
    target_text as target_text,
)
from hopjax.ensemble.solve import (
    finish as finish,
    make_ensemble as make_ensemble,
    own_reductions as own_reductions,
    solve_ensemble as solve_ensemble,
    summary_job as summary_job,
    trial_program as trial_program,
)
