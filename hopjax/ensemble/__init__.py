"""Many trials of one setting, and their statistics."""

from hopjax.ensemble.ensemble import (
    VARIABLES as VARIABLES,
    Device as Device,
    Ensemble as Ensemble,
    Job as Job,
    Plan as Plan,
    Variable as Variable,
    check_devices as check_devices,
    check_trial as check_trial,
    check_trials as check_trials,
    make_ensemble as make_ensemble,
    make_plan as make_plan,
    progress_bar as progress_bar,
    run_chunks as run_chunks,
    solve_ensemble as solve_ensemble,
    target_text as target_text,
    trial_program as trial_program,
)
from hopjax.ensemble.reductions import (
    AbstractReduction as AbstractReduction,
    Histogram as Histogram,
    Moments as Moments,
    Partial as Partial,
    PerTrial as PerTrial,
    Totals as Totals,
)
