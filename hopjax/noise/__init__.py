"""Noise: a diffusion term, and the path that drives it as a function of key and step."""

from hopjax.noise.noise import (
    AbstractLaw as AbstractLaw,
    AbstractNoise as AbstractNoise,
    AdditiveNoise as AdditiveNoise,
    Binomial as Binomial,
    BrownianTree as BrownianTree,
    Gaussian as Gaussian,
    MultiplicativeNoise as MultiplicativeNoise,
    TwoPoint as TwoPoint,
)
