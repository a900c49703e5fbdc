"""Clone demonstrations into an MLP with robomimic's own loader and loop, and print the figures as JSON.

    robomimic_bc.py ARRAYS WIDTH LAYERS BATCH_SIZE UPDATES

ARRAYS is an .npz with ``observation`` (N, D), ``action`` (N, A) in [-1, 1] and ``episode_ends``. The settings are
those that robomimic has for states (all data cached, loader without workers) but for the sizes given.
"""

import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

WARM_UP_UPDATES = 20


class Unused(ModuleType):
    """Stands for a module of which names are imported, and never used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}")


def leave_out_what_sees() -> None:
    """Stand in for torchvision, which does not import beside torch's CPU build: here are no images."""
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = Unused(name)


leave_out_what_sees()

import h5py  # noqa: E402  # pyright: ignore[reportMissingImports]
import robomimic.utils.obs_utils as obs_utils  # noqa: E402  # pyright: ignore[reportMissingImports]
import robomimic.utils.train_utils as train_utils  # noqa: E402  # pyright: ignore[reportMissingImports]
from robomimic.algo import algo_factory  # noqa: E402  # pyright: ignore[reportMissingImports]
from robomimic.config import config_factory  # noqa: E402  # pyright: ignore[reportMissingImports]


def write_hdf5(path: Path, arrays: Any) -> None:
    """Write the demonstrations in robomimic's format."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = len(arrays["action"])
        data.attrs["env_args"] = json.dumps({"env_name": "states", "type": 1, "env_kwargs": {}})
        start = 0
        for k, end in enumerate(arrays["episode_ends"]):
            demo = data.create_group(f"demo_{k}")
            demo.attrs["num_samples"] = int(end - start)
            demo["obs/state"], demo["actions"] = arrays["observation"][start:end], arrays["action"][start:end]
            demo["rewards"], demo["dones"] = np.zeros(end - start), np.zeros(end - start)
            start = end


def configured(path: Path, width: int, layers: int, batch_size: int) -> Any:
    """Settings of behaviour cloning as robomimic has them, with these sizes."""
    config = config_factory("bc")
    with config.unlocked():
        config.train.data, config.train.batch_size, config.train.cuda = str(path), batch_size, False
        config.observation.modalities.obs.low_dim = ["state"]
        config.algo.actor_layer_dims = (width,) * layers
    config.lock()
    return config


def main(arrays_path: str, width: int, layers: int, batch_size: int, updates: int) -> None:
    """Time ``updates`` of them."""
    torch.set_num_threads(1)
    arrays = np.load(arrays_path)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demos.hdf5"
        write_hdf5(path, arrays)
        config = configured(path, width, layers, batch_size)
        obs_utils.initialize_obs_utils_with_config(config)
        dataset, _ = train_utils.load_data_for_training(config, obs_keys=["state"])
    model = algo_factory(
        "bc",
        config,
        obs_key_shapes={"state": list(arrays["observation"].shape[1:])},
        ac_dim=arrays["action"].shape[1],
        device=torch.device("cpu"),
    )
    loader = torch.utils.data.DataLoader(
        dataset,
        sampler=dataset.get_dataset_sampler(),
        batch_size=batch_size,
        shuffle=True,
        num_workers=config.train.num_data_workers,
        drop_last=True,
    )
    train_utils.run_epoch(model, loader, epoch=1, num_steps=WARM_UP_UPDATES)
    began_s = time.process_time()
    train_utils.run_epoch(model, loader, epoch=2, num_steps=updates)
    cpu_s = time.process_time() - began_s
    figures = {
        "project": f"robomimic {version('robomimic')}, torch {torch.__version__}",
        "parameters": sum(parameter.numel() for parameter in model.nets.parameters()),
        "batch_size": batch_size,
        "updates": updates,
        "samples_per_cpu_s": batch_size * updates / cpu_s,
    }
    print(json.dumps(figures))


main(sys.argv[1], *map(int, sys.argv[2:]))
