"""Noisy memory retrieval in Hopfield networks, as stochastic differential equations on JAX."""

import typing as _typing

from hopjax import statistics as statistics, theory as theory
from hopjax._errors import ArgumentError as ArgumentError
from hopjax.activations import (
    AbstractActivation as AbstractActivation,
    Erf as Erf,
    HardTanh as HardTanh,
    Tanh as Tanh,
)
from hopjax.command import FileError as FileError
from hopjax.engine import WorkerError as WorkerError, map_trials as map_trials
from hopjax.ensemble import (
    AbstractReduction as AbstractReduction,
    Change as Change,
    Convergence as Convergence,
    Ensemble as Ensemble,
    Histogram as Histogram,
    Moments as Moments,
    PerTrial as PerTrial,
    check_convergence as check_convergence,
    solve_ensemble as solve_ensemble,
)
from hopjax.inputs import NoisyInput as NoisyInput, Schedule as Schedule
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
    SequentialHopfield as SequentialHopfield,
    SoftmaxSeparation as SoftmaxSeparation,
    TwoLayerHopfield as TwoLayerHopfield,
)
from hopjax.noise import (
    AbstractLaw as AbstractLaw,
    AbstractNoise as AbstractNoise,
    AdditiveNoise as AdditiveNoise,
    Binomial as Binomial,
    BrownianTree as BrownianTree,
    Gaussian as Gaussian,
    MultiplicativeNoise as MultiplicativeNoise,
    TwoPoint as TwoPoint,
)
from hopjax.pictures import (
    glyph_memories as glyph_memories,
    picture_memories as picture_memories,
)
from hopjax.solving import (
    DivergenceError as DivergenceError,
    ExponentialAdams as ExponentialAdams,
    Trajectory as Trajectory,
    solve as solve,
)
from hopjax.statistics import Interval as Interval
from hopjax.store import StudyError as StudyError
from hopjax.study import (
    Study as Study,
    load_study as load_study,
)
from hopjax.tasks import Retrieval as Retrieval
from hopjax.trials import (
    Criterion as Criterion,
    Trial as Trial,
    Visits as Visits,
)
from hopjax.tuning import (
    AbstractLoss as AbstractLoss,
    InputCost as InputCost,
    OverlapLoss as OverlapLoss,
    RetrievalLoss as RetrievalLoss,
    TimeLoss as TimeLoss,
    Tuning as Tuning,
    TuningError as TuningError,
    WeightedSum as WeightedSum,
    load_tuning as load_tuning,
    loss_and_gradient as loss_and_gradient,
    tune as tune,
)

if _typing.TYPE_CHECKING:
    from hopjax import plotting as plotting
else:

    def __getattr__(name):
        """`plotting` when it is first asked for, as Matplotlib takes long to import."""
        if name == "plotting":
            import importlib

            return importlib.import_module("hopjax.plotting")
        raise AttributeError(f"module 'hopjax' has no attribute '{name}'")


__version__ = "0.1.0"
