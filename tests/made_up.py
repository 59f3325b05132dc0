"""A study's dataset that no study made: all that is drawn of one, with numbers by chance."""

import json

import numpy as np
import xarray as xr

from hopjax.ensemble import Ensemble

OUTCOMES = Ensemble.OUTCOMES
TIMES = 7


def a_study(noises: int, slopes: int, kind: str = "Retrieval") -> xr.Dataset:
    draw = np.random.default_rng(0)
    dims, shape = ("noise", "slope"), (noises, slopes)
    counts = draw.integers(0, 20, (*shape, len(OUTCOMES)))
    trials = counts.sum(axis=-1).max()
    p = draw.uniform(0.1, 0.9, shape)
    of_cells = {"retrieved": p, "retrieved_low": p - 0.1, "retrieved_high": p + 0.1}
    return xr.Dataset(
        {
            **{name: (dims, values) for name, values in of_cells.items()},
            "outcome_count": ((*dims, "outcome_name"), counts),
            "target_memory": ((*dims, "trial", "target_number"), np.zeros((*shape, trials, 1))),
            "passage_time": ((*dims, "trial"), draw.uniform(0, 2, (*shape, trials))),
            "overlap_mean": ((*dims, "time"), draw.uniform(0, 1, (*shape, TIMES))),
            "overlap_variance": ((*dims, "time"), draw.uniform(0, 0.1, (*shape, TIMES))),
            "passed": ((*dims, "time"), np.sort(draw.uniform(0, 1, (*shape, TIMES)))),
            "overlap_quantile": (
                (*dims, "quantile_level", "time"),
                np.sort(draw.uniform(0, 1, (*shape, 3, TIMES)), axis=2),
            ),
        },
        {
            **{"noise": np.arange(noises) / 2, "slope": 10.0 * np.arange(1, slopes + 1)},
            **{"time": np.arange(TIMES) / 3, "outcome_name": list(OUTCOMES)},
            "quantile_level": [0.1, 0.5, 0.9],
        },
        {
            **{"title": "hopjax study", "trials": int(trials), "criterion": "|m| > 0.9"},
            **{"definition": json.dumps({"trial": {"kind": kind}}), "mirror": 1},
            "diverged": "none",
        },
    )
