"""Install the training side of resip: simulation, experts, data, models and algorithms."""

from setuptools import find_packages, setup

setup(
    name="resip_training",
    version="0.1.0",
    description="Residual RL for precise assembly: simulation and training",
    license="MIT",
    # mujoco 4 and zarr 3 start at Python 3.11
    python_requires=">=3.11",
    packages=find_packages(include=["resip_training", "resip_training.*"]),
    package_data={"resip_training.bench.peers": ["*.txt"], "resip_training.report": ["*.j2"]},
    install_requires=[
        "resip",
        "diffusers>=0.30",
        "fast-simplification>=0.1.7",
        "gymnasium>=1.0",
        "kornia>=0.9",
        "manifold3d>=3.0",
        "mujoco>=4.0",
        "numcodecs>=0.13",
        "pycollada>=0.8",
        "rich>=13",
        "safetensors>=0.4",
        "scipy>=1.11",
        "tensorboard>=2.15",
        "trimesh>=4.4",
        "zarr>=3.0",
    ],
    extras_require={
        # the physics on a GPU, and its tests on any machine
        "gpu": ["mujoco-warp>=4.0", "warp-lang>=1.15"],
        # `resip bag to-lerobot`
        "lerobot": ["pyarrow>=21"],
        # `resip usd`
        "usd": ["usd-core>=24.11"],
    },
    entry_points={"resip.commands": ["training = resip_training.cli:COMMANDS"]},
    zip_safe=False,
)
