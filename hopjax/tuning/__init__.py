"""Numbers of a trial, such as an input's strength, tuned by gradient."""

from hopjax.tuning.descent import TuningError as TuningError
from hopjax.tuning.load import load_tuning as load_tuning
from hopjax.tuning.losses import (
    AbstractLoss as AbstractLoss,
    InputCost as InputCost,
    OverlapLoss as OverlapLoss,
    RetrievalLoss as RetrievalLoss,
    TimeLoss as TimeLoss,
    WeightedSum as WeightedSum,
)
from hopjax.tuning.objective import (
    LossAndGradient as LossAndGradient,
    loss_and_gradient as loss_and_gradient,
)
from hopjax.tuning.prepared import prepare as prepare, sorted_out as sorted_out
from hopjax.tuning.result import (
    SHOWN as SHOWN,
    Tuning as Tuning,
    summary as summary,
    tuned_text as tuned_text,
    variable_of as variable_of,
)
from hopjax.tuning.tune import (
    estimate_tuning as estimate_tuning,
    tune as tune,
)
from hopjax.tuning.unfinished import (
    is_unfinished_tuning as is_unfinished_tuning,
    load_unfinished_tuning as load_unfinished_tuning,
)
