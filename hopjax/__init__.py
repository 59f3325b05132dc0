"""Noisy memory retrieval in Hopfield networks, as stochastic differential equations on JAX."""

from hopjax import theory as theory
from hopjax.activations import (
    AbstractActivation as AbstractActivation,
    Erf as Erf,
    Tanh as Tanh,
)
from hopjax.criterion import Criterion as Criterion
from hopjax.ensemble import (
    Ensemble as Ensemble,
    solve_ensemble as solve_ensemble,
)
from hopjax.inputs import Schedule as Schedule
from hopjax.losses import (
    AbstractLoss as AbstractLoss,
    InputCost as InputCost,
    OverlapLoss as OverlapLoss,
    RetrievalLoss as RetrievalLoss,
    TimeLoss as TimeLoss,
    WeightedSum as WeightedSum,
)
from hopjax.memories import (
    correlated_memories as correlated_memories,
    corrupt as corrupt,
    mixture as mixture,
    orthogonal_memories as orthogonal_memories,
    random_memories as random_memories,
    sparse_memories as sparse_memories,
)
from hopjax.models import (
    AbstractBipolarHopfield as AbstractBipolarHopfield,
    AbstractHopfield as AbstractHopfield,
    AbstractOneLayerHopfield as AbstractOneLayerHopfield,
    AbstractSeparation as AbstractSeparation,
    ClassicHopfield as ClassicHopfield,
    DecorrelatedHopfield as DecorrelatedHopfield,
    DenseHopfield as DenseHopfield,
    DynamicAttention as DynamicAttention,
    FiringRateHopfield as FiringRateHopfield,
    IDPHopfield as IDPHopfield,
    LinearSeparation as LinearSeparation,
    PowerSeparation as PowerSeparation,
    SoftmaxSeparation as SoftmaxSeparation,
    TwoLayerHopfield as TwoLayerHopfield,
)
from hopjax.noise import (
    AbstractLaw as AbstractLaw,
    AbstractNoise as AbstractNoise,
    AdditiveNoise as AdditiveNoise,
    BrownianTree as BrownianTree,
    Gaussian as Gaussian,
    MultiplicativeNoise as MultiplicativeNoise,
    TwoPoint as TwoPoint,
)
from hopjax.pictures import (
    glyph_memories as glyph_memories,
    picture_memories as picture_memories,
)
from hopjax.reductions import (
    AbstractReduction as AbstractReduction,
    Histogram as Histogram,
    Moments as Moments,
    PerTrial as PerTrial,
)
from hopjax.solve import (
    DivergenceError as DivergenceError,
    Trajectory as Trajectory,
    solve as solve,
)
from hopjax.study import (
    Study as Study,
    StudyError as StudyError,
    load_study as load_study,
)
from hopjax.tasks import Retrieval as Retrieval
from hopjax.trials import (
    Trial as Trial,
)
from hopjax.tuning import (
    Tuning as Tuning,
    TuningError as TuningError,
    tune as tune,
)

__version__ = "0.1.0"
