"""Ensembles, a study and tunings give what they gave when their results were saved."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import saved_results
from conftest import ROOT

PER_TRIAL = ("outcome", "passage_time", "final_overlap", "final_energy")


@pytest.mark.slow
@pytest.mark.parametrize(
    "devices", [1, *(pytest.param(count, marks=pytest.mark.long) for count in (2, 4))]
)
def test_results_are_those_that_were_saved(devices, tmp_path):
    """To the bit where versions and processor are the same, elsewhere to rounding."""
    # As users compute: in float32, with all optimisations.
    settings = {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-W", "error", saved_results.__file__, tmp_path / "now.npz"],
        env=os.environ | settings | {"PYTHONPATH": path},
        check=True,
    )
    with np.load(saved_results.FILE) as saved, np.load(tmp_path / "now.npz") as now:
        there, here = (json.loads(str(each["about"])) for each in (saved, now))
        names = [name for name in saved.files if name != "about"]
        assert {*names} == {*now.files} - {"about"}
        same = there == here
        print(f"to the bit, on {here}" if same else f"to rounding: saved on {there}, now {here}")
        for name in names:
            found, kept = now[name], saved[name]
            if name.endswith("passage_time"):  # which was that of the step then
                dt = saved_results.SETTINGS["dt"]
                found = np.ceil(found / dt - 1e-6) * dt
            if same:
                np.testing.assert_array_equal(found, kept, err_msg=name)
                continue
            # Where rounding decides a trial, that one may end elsewhere or beyond the edge of a
            # bin, and the means move a bit.
            found, kept = np.asarray(found, float), np.asarray(kept, float)
            if name.endswith(PER_TRIAL):
                assert np.mean(np.isclose(found, kept, rtol=1e-4, atol=1e-5)) >= 0.9, name
            elif name.endswith("histogram"):
                assert np.abs(found - kept).sum() <= 0.05 * kept.sum(), name
            else:
                np.testing.assert_allclose(found, kept, rtol=0.05, atol=0.05, err_msg=name)
