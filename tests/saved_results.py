"""Results of ensembles, a study and tunings that are compared with those of earlier versions.

`python tests/saved_results.py FILE` saves them, with the processor and the versions that they were
made with: the bits are the same where these are, on any number of devices.
"""

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import hopjax as hj

FILE = Path(__file__).with_suffix(".npz")
KEY = jax.random.key(7)
SETTINGS: dict[str, Any] = {"key": KEY, "t1": 2.0, "dt": 0.02, "progress": False}


def here() -> dict[str, str]:
    """What decides how numbers are rounded."""
    packages = ("jax", "jaxlib", "diffrax", "equinox", "optax")
    return {name: version(name) for name in packages} | {"processor": processor()}


def processor() -> str:
    """The model of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def trial(key: Any, noise: float = 0.7, strength: float = 3.0, model: str = "idp") -> hj.Trial:
    """Fresh memories, and a start in another one than the input shows."""
    memories = hj.random_memories(key, num_memories=4, num_neurons=64)
    kind = {"idp": hj.IDPHopfield, "classic": hj.ClassicHopfield}[model]
    shown = hj.mixture(memories, jnp.array([1.5, 0.0, 0.5, 0.5]).at[1].set(strength))
    schedule = hj.Schedule([0.0, 1.0], jnp.stack([shown, 0.8 * shown]))
    start = 1.5 * hj.corrupt(key, memories[0], 0.2)
    return hj.Trial(kind(memories), schedule, start, hj.AdditiveNoise(noise), target=1)


def cheap(key: Any) -> hj.Trial:
    """With signs for increments."""
    made = trial(key, noise=1.2)
    return hj.Trial(made.model, made.inputs, made.x0, hj.AdditiveNoise(1.2, "two_point"), target=1)


def compute(devices: list[Any]) -> dict[str, np.ndarray]:
    """Everything, on some devices."""
    found: dict[str, Any] = {}
    names = ("outcome", "passage_time", "final_overlap", "final_energy", "overlap_mean")
    names += ("overlap_variance", "histogram")
    for name, made in {"gaussian": trial, "signs": cheap}.items():
        ensemble = hj.solve_ensemble(made, trials=40, chunk=16, devices=devices, **SETTINGS)
        found |= {f"{name}/{each}": getattr(ensemble, each) for each in names}
    sweep = {"model": ["idp", "classic"], "noise": [0.3, 1.1]}
    settings = {name: value for name, value in SETTINGS.items() if name != "progress"}
    study = hj.Study(trial, sweep, trials=20, chunk=8, paired=["noise"], **settings)
    dataset = study.run(devices=devices, progress=False)
    found |= {f"study/{each}": dataset[each].to_numpy() for each in (*names[:-1], "retrieved")}
    loss = hj.OverlapLoss(at_least=1.0)
    tuned: dict[str, Any] = {"trials": 16, "chunk": 4, "steps": 6, "window": 3, "verify": 8}
    for name, start in {"forward": {"strength": 2.0}, "reverse": {"inputs.values": None}}.items():
        tuning = hj.tune(trial, start, loss=loss, devices=devices, **tuned, **SETTINGS)
        history = {each: tuning.history[each].to_numpy() for each in ("loss", "gradient_norm")}
        found |= {f"{name}/{each}": part for each, part in (history | tuning.parameters).items()}
    return {name: np.asarray(part) for name, part in found.items()}


if __name__ == "__main__":
    saved: dict[str, Any] = {"about": np.array(json.dumps(here()))}
    saved |= compute(jax.local_devices())
    np.savez_compressed(sys.argv[1], **saved)
