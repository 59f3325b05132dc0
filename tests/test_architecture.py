"""The house rules: imports point one way, classes are abstract or final, annotations are true."""

import ast
import functools
import graphlib
import importlib
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import equinox as eqx
import pytest
from conftest import ROOT

PACKAGE = ROOT / "hopjax"
# Dotted names inside the package; a subpackage's own name stands for its __init__.
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = [name for name in FILES if name != "__init__"]

# Rooms and single files of the package, in their order: each may import what stands before it.
LAYERS = (
    *("_errors", "_checks", "_keys", "_steps", "_progress"),
    *("activations", "memories", "pictures", "statistics", "inputs"),
    *("program", "noise", "models", "solving", "theory", "trials", "engine", "ensemble"),
    *("store", "study", "tuning", "tasks", "plotting", "command"),
)
# Neighbours that do not know each other.
APART = {"tuning": {"study"}, "plotting": set(LAYERS) - {"_errors", "_checks", "plotting"}}

EVERYWHERE = {"equinox", "jax", "jaxtyping", "numpy"}
THIRD_PARTY: dict[str, set[str]] = {
    "pictures": {"PIL", "matplotlib"},
    "statistics": {"scipy"},
    "noise": {"diffrax"},
    "solving": {"diffrax", "lineax"},
    "theory": {"diffrax", "lineax", "optimistix", "scipy"},
    "_progress": {"tqdm"},
    "engine": {"cloudpickle"},
    "ensemble": {"diffrax", "scipy"},
    "store": {"filelock", "xarray"},
    "study": {"diffrax", "xarray"},
    "tuning": {"diffrax", "optax", "scipy", "xarray"},
    "plotting": {"matplotlib"},
    "command": {"altair", "click", "distributed", "matplotlib", "optax", "vl_convert", "xarray"},
}


@functools.cache
def syntax(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """Dotted names of everything imported, inside functions too."""
    for node in ast.walk(syntax(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{FILES[module]}:{node.lineno} imports relatively"
            # `from hopjax import models` is an import of hopjax.models.
            prefixed = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from prefixed if node.module == "hopjax" else [node.module or ""]


def inner_imports(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    # "hopjax" alone would be everything.
    inner = {name for name in imports(module) if name.split(".")[0] == "hopjax"}
    return {name.removeprefix("hopjax.") for name in inner}


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    assert room(module) in LAYERS, f"{FILES[module]} needs a place in LAYERS"
    before = {*LAYERS[: LAYERS.index(room(module)) + 1]}
    found = inner_imports(module)
    assert {room(name) for name in found} <= before
    apart = APART.get(room(module), set())
    assert not apart & ({room(name) for name in found} | found)


def test_imports_have_no_cycle():
    order = graphlib.TopologicalSorter({name: inner_imports(name) for name in MODULES})
    assert set(order.static_order()) == set(MODULES)


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_third_party_imports_are_the_allowed_ones(module):
    top_level = {name.split(".")[0] for name in imports(module)}
    outer = top_level - {"hopjax"} - sys.stdlib_module_names
    assert outer <= EVERYWHERE | THIRD_PARTY.get(room(module), set())


@pytest.mark.parametrize("module", MODULES)
def test_files_can_be_read_at_a_sitting(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= 450


@pytest.mark.parametrize("module", MODULES)
def test_files_inside_a_room_have_no_underscore(module):
    *inside, name = module.split(".")
    assert not inside or not name.startswith("_")


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_annotations_are_evaluated(module):
    # As strings they would switch off Equinox's check of abstract fields, without a word.
    assert "__future__" not in imports(module)


def python(script: str, *options: str) -> str:
    """Run a script in a fresh interpreter."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(script)],
        # Fast code is not wanted, but soon.
        env=os.environ | {"PYTHONPATH": path, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_plotting_is_imported_when_it_is_asked_for():
    script = """
        import sys, hopjax as hj
        print("matplotlib" in sys.modules, hj.plotting is sys.modules["hopjax.plotting"])
        try:
            hj.ploting
        except AttributeError as error:
            print(error)
    """
    lines = python(script).splitlines()
    assert lines == ["False True", "module 'hopjax' has no attribute 'ploting'"]


@pytest.mark.slow
def test_import_is_light():
    loaded = python("import hopjax, sys; print(*sys.modules)").split()
    assert "hopjax.solving" in loaded
    heavy = {"matplotlib", "optax", "xarray", "pandas", "tqdm", "click", "h5netcdf", "h5py"}
    heavy.add("distributed")
    assert not heavy & set(loaded)


@functools.cache
def equinox_classes() -> tuple[type, ...]:
    """Every Equinox Module class that the package defines, private ones included."""
    modules = [importlib.import_module(f"hopjax.{module}") for module in MODULES]
    return tuple(
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, eqx.Module)
        and value.__module__ == module.__name__
    )


def is_abstract(cls: type) -> bool:
    return cls.__name__.lstrip("_").startswith("Abstract")


def descendants(cls: type) -> list[type]:
    return [other for other in equinox_classes() if issubclass(other, cls) and other is not cls]


def test_classes_are_abstract_or_final():
    names = {cls.__name__ for cls in equinox_classes()}
    assert {"AbstractHopfield", "IDPHopfield", "Schedule", "Trajectory"} <= names
    for cls in equinox_classes():
        assert inspect.isabstract(cls) == is_abstract(cls), cls
        assert is_abstract(cls) or not descendants(cls), cls


def test_concrete_methods_are_never_overridden():
    checked = 0
    for cls in filter(is_abstract, equinox_classes()):
        concrete = {
            name
            for name, value in vars(cls).items()
            if (inspect.isfunction(value) or isinstance(value, property))
            and not name.startswith("__")  # these are made anew for every dataclass
            and not getattr(value, "__isabstractmethod__", False)
        }
        for descendant in descendants(cls):
            assert not concrete & vars(descendant).keys(), (cls, descendant)
            checked += len(concrete)
    assert checked > 0


# The annotations hold while everything runs: beartype checks each call, with the array shapes.
TYPE_CHECKED = """
    import tempfile
    from pathlib import Path

    from jaxtyping import TypeCheckError, install_import_hook

    with install_import_hook("hopjax", "beartype.beartype"):
        import hopjax as hj

    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    keys = jax.random.split(jax.random.key(0), 3)
    memories = hj.random_memories(keys[0], num_memories=3, num_neurons=8)
    hj.orthogonal_memories(num_memories=3, num_neurons=8, key=keys[0])
    inputs = hj.mixture(memories, np.array([[1.0, 0.2, 0.1], [0.1, 0.2, 1.0]], np.float32))
    x0 = hj.corrupt(keys[1], memories[0], 0.2)

    class Cosine(eqx.Module):
        amplitude: jax.Array

        def __call__(self, t):
            return self.amplitude * jnp.cos(t)

    def state(t, x):
        return t, x

    def proportional(t, x):
        return 0.1 * x

    def run(model, shown, noise, x0=x0, key=keys[0]):
        return hj.solve(
            model, shown, x0, t1=0.3, dt=0.1, noise=noise, key=key, save_every=0.1, save_fn=state
        )

    classic = hj.ClassicHopfield(np.asarray(memories, int), hj.Erf(3), self_coupling=True)
    idp = hj.IDPHopfield(memories, hj.Erf(np.float32(3.0)))
    schedule = hj.Schedule([0.0, 0.2], inputs)
    for model in (classic, idp):
        model.energy(x0, inputs[0])
        model.saliency(inputs[0])

    trajectory = run(classic, schedule.pulsed(0.1), hj.AdditiveNoise(0.5))
    assert "3 memories" in repr(trajectory)
    assert trajectory.overlaps.shape == (4, 3)
    assert run(classic, np.asarray(inputs[0]), hj.AdditiveNoise(np.ones(8), "two_point")).ok
    assert run(classic, Cosine(inputs[0]), None, key=None).ok
    finer = hj.Gaussian(refinement=1)
    assert run(idp, inputs[0], hj.MultiplicativeNoise(proportional, finer), np.asarray(x0)).ok

    # Everything that a batch can vary, and its gradient.
    law = hj.TwoPoint()

    @jax.jit
    @jax.vmap
    def slope(key, patterns, strength, onset):
        def overlap(strength):
            model = hj.IDPHopfield(patterns)
            shown = hj.Schedule(jnp.stack([0 * onset, onset]), inputs)
            solution = run(model, shown, hj.AdditiveNoise(strength, law), patterns[0], key)
            return jnp.sum(solution.overlaps[-1]), solution

        return jax.grad(overlap, has_aux=True)(strength)

    gradients, solutions = slope(
        keys, jnp.stack(3 * [memories]), jnp.array([0.1, 0.2, 0.3]), jnp.array([0.1, 0.2, 0.1])
    )
    assert jnp.isfinite(gradients).all()
    assert "3 trials (3 of 3 ok)" in repr(solutions)

    # Many trials, and sweeps of them in a folder.
    def setting(key, noise=0.5, weights=(1.0, 0.2), kind="idp"):
        weights = jnp.concatenate([jnp.asarray(weights), jnp.zeros(1)])
        model = idp if kind == "idp" else hj.ClassicHopfield(memories)
        shown = hj.mixture(memories, weights.astype(memories.dtype))
        return hj.Trial(model, shown, x0, hj.AdditiveNoise(noise), target=[1, 2])

    def final(trial, trajectory):
        return trajectory.final_state

    def first_neuron(t, state, overlaps):
        return state[0]

    def same(t, state):
        return state

    settings = dict(trials=3, key=keys[2], t1=0.2, dt=0.1, chunk=2)
    often = hj.Criterion(0.8, settle=0.1, mirror=False, judge="instants", amplitude=0.5)
    judged = dict(criterion=often, save_fn=same, passage_fn=first_neuron)
    kept = dict(reductions={"state": hj.Moments(final), "each": hj.PerTrial(final)})
    ensemble = hj.solve_ensemble(setting, **settings, **judged, **kept, trajectories=True)
    assert "3 trials" in repr(ensemble)
    assert often.margin(idp, x0, idp.overlaps(x0), [0, 2]).shape == ()
    sweep = {"noise": [0.1, 0.2], "weights": [(1.0, 0.2)], "kind": ["classic"]}
    study = hj.Study(setting, sweep, **settings, **judged, **kept, paired=["noise"])
    with tempfile.TemporaryDirectory() as folder:
        dataset = study.run(folder)
        assert dataset.identical(hj.load_study(folder))
        assert dataset.identical(study.run(Path(folder)))
    shown = dict(shown=(0, 1), onsets=(0.0, 0.1), start="memory")
    task = hj.Retrieval(num_neurons=8, memory_load=0.5, **shown)
    standard = hj.Study(task, [{"noise": 0.0}, {"noise": 1}], **settings)
    assert standard.run().sizes["cell"] == 2

    # Tuning: a few numbers forwards, many backwards, of a function and of a trial.
    retrieval = hj.RetrievalLoss(temperature=0.2, goal=0.9, straight_through=True)
    losses = retrieval + 0.1 * hj.TimeLoss(temperature=0.5) + hj.InputCost() * 0.01
    tuned = dict(key=keys[2], t1=0.4, dt=0.1, trials=5, chunk=2, steps=5, window=2, verify=3)
    with tempfile.TemporaryDirectory() as folder:
        parameters, bounds = {"noise": 0.5, "weights": (1.0, 0.2)}, {"noise": (0.0, None)}
        tuning = hj.tune(
            setting, parameters, loss=losses, bounds=bounds, criterion=often, **tuned,
            folder=folder,
        )
        again = hj.tune(
            setting, parameters, loss=losses, bounds=bounds, criterion=often, **tuned,
            folder=Path(folder),
        )
        assert again.history.identical(tuning.history)
    assert "weights" in repr(tuning) and tuning.parameters["noise"] > 0
    trial = setting(keys[0])
    start = {"model.memories": None, "noise.strength": 0.5}
    many = hj.tune(trial, start, loss=hj.OverlapLoss(at_least=1.0), fresh=False, **tuned)
    assert many.history.attrs["mode"] == "reverse"
    assert many.parameters["model.memories"].shape == (3, 8)

    # And the checks were on.
    try:
        idp.energy(x0, x0[:3])
    except TypeCheckError:
        print("checked")
"""


@pytest.mark.slow
def test_annotations_are_true():
    assert python(TYPE_CHECKED, "-W", "error").split() == ["checked"]
