"""The how-to's model of the user's own goes wherever the package's models go."""

import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import EXACT, ROOT
from numpy.testing import assert_allclose

import hopjax as hj
from hopjax import plotting, theory

T1, DT = 1.0, 0.1


def own_class() -> Any:
    """The class as the page has it, defined anew."""
    page = ROOT / "docs" / "how-to" / "networks.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    (block,) = (block for block in blocks if "class SaturatingHopfield" in block)
    (definition,) = re.findall(r"class SaturatingHopfield.*?\n\n\n", block, re.DOTALL)
    assert len(definition.strip().splitlines()) <= 20
    names: dict[str, Any] = {"hj": hj, "jnp": jnp, "eqx": eqx}
    exec("from jaxtyping import Array, Float\n" + definition, names)
    return names["SaturatingHopfield"]


@pytest.fixture(scope="module")
def model() -> Any:
    memories = hj.random_memories(jax.random.key(0), num_memories=3, num_neurons=64)
    return own_class()(memories, 2.0)


@pytest.fixture
def shown(model):
    return hj.mixture(model.memories, jnp.array([3.0, 1.0, 0.5]))


def test_solve_and_plots(model, shown):
    x0, noise = model.memories[1], hj.AdditiveNoise(0.5)
    trajectory = hj.solve(model, shown, x0, t1=T1, dt=DT, noise=noise, key=jax.random.key(1))
    assert trajectory.ok
    axes = plotting.plot_overlaps(trajectory.ts, trajectory.overlaps, highlight=[0, 1])
    assert len(axes.lines) == 3
    axes = plotting.plot_picture(trajectory.final_state)
    assert np.asarray(axes.images[0].get_array()).shape == (8, 8)
    plt.close("all")


@pytest.mark.slow
def test_ensembles_and_studies(model, shown, tmp_path):
    def trial(key, most=1.0):
        own = type(model)(model.memories, most)
        return hj.Trial(own, shown, model.memories[1], hj.AdditiveNoise(0.5))

    settings = {"trials": 4, "key": jax.random.key(2), "t1": T1, "dt": DT}
    ensemble = hj.solve_ensemble(trial, **settings)
    assert np.isfinite(ensemble.final_energy).all()
    study = hj.Study(trial, {"most": [1.0, 2.0]}, **settings)
    dataset = study.run(tmp_path)
    assert dataset.sizes["most"] == 2
    assert hj.load_study(tmp_path).identical(dataset)


@pytest.mark.slow
def test_theory_and_memories(model, shown):
    report = theory.report(model, shown)
    assert report.kinds[0] == "stable"
    assert "SaturatingHopfield" in str(report)
    # Its energy is one: the drift descends it.
    x = 0.1 * jax.random.normal(jax.random.key(3), (64,))
    slope = -jax.grad(model.energy)(x, shown) / model.activation.derivative(x)
    drift = model.drift(jnp.zeros(()), x, model.drive(shown))
    assert_allclose(drift, slope, rtol=EXACT, atol=EXACT)
    more = model.with_memory(-model.memories[0] * model.memories[1])
    assert more.most == model.most
    assert more.memories.shape == (4, 64)
    assert_allclose(more.without_memory(3).memories, model.memories)
