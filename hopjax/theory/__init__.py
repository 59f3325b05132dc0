"""What is known without solving: equilibria, thresholds, wells, and what noise does to them."""

from hopjax.theory.averaging import NoisyActivation as NoisyActivation
from hopjax.theory.equilibria import (
    Spectrum as Spectrum,
    effective_saliency as effective_saliency,
    equilibrium_amplitude as equilibrium_amplitude,
    existence_threshold as existence_threshold,
    jacobian_spectrum as jacobian_spectrum,
    largest_coupling as largest_coupling,
    mixture_energy as mixture_energy,
    mixture_overlap as mixture_overlap,
    mixture_stability_threshold as mixture_stability_threshold,
    origin_growth_rate as origin_growth_rate,
    stability_threshold as stability_threshold,
    well_energy as well_energy,
)
from hopjax.theory.flow import noisy_flow as noisy_flow, noisy_model as noisy_model
from hopjax.theory.noise import (
    critical_noise as critical_noise,
    crosstalk_noise as crosstalk_noise,
    effective_noise as effective_noise,
    escape_noise as escape_noise,
    escape_rate as escape_rate,
    escape_time as escape_time,
    noise_at_overlap as noise_at_overlap,
    noisy_overlap as noisy_overlap,
)
from hopjax.theory.numerical import (
    Equilibrium as Equilibrium,
    classify as classify,
    find_equilibrium as find_equilibrium,
    find_memory as find_memory,
    leading_eigenvalues as leading_eigenvalues,
)
from hopjax.theory.rates import (
    largest_rate_density as largest_rate_density,
    least_rate_saliency as least_rate_saliency,
)
from hopjax.theory.report import Prediction as Prediction, Report as Report, report as report
from hopjax.theory.sequences import (
    critical_gain as critical_gain,
    dwell_time as dwell_time,
    next_saliency as next_saliency,
    sequence_saliency as sequence_saliency,
)
from hopjax.theory.states import (
    Landscape as Landscape,
    State as State,
    stable_states as stable_states,
)
