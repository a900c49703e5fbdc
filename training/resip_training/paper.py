"""What the paper measured in simulation, and which of its methods a run of ours is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

_COLUMNS: Final = tuple((task, level) for task in ("one_leg", "round_table", "lamp") for level in ("low", "med"))
_TABLE_1: Final = {
    "MLP-S": (0, 0, 0, 0, 0, 0),
    "MLP-C": (45, 10, 5, 2, 8, 1),
    "DP": (54, 29, 12, 4, 7, 2),
    "MLP-C + PPO": (70, 28, 38, 6, 32, 2),
    "DP + IDQL": (52, 13, 18, 3, 11, 1),
    "DP + Residual PPO": (95, 68, 55, 10, 60, 8),
}

#: Success in percent by (method, task, randomness).
TABLE_1: Final = MappingProxyType(
    {
        (method, *column): percent
        for method, row in _TABLE_1.items()
        for column, percent in zip(_COLUMNS, row, strict=True)
    }
)

#: Success in percent of students on images (Fig. 4, section 4.2), by (what they are cloned from, task, randomness). A
#: student on states, cloned from as many rollouts, is only said to be comparable.
FIGURE_4: Final = MappingProxyType(
    {("demonstrations", "one_leg", "low"): 50, ("rollouts", "one_leg", "low"): 73},
)

#: Success in percent of students on states (Fig. 5, section 4.2), by (number of rollouts, task, randomness): the one
#: number of that figure that the text gives.
FIGURE_5: Final = MappingProxyType({(10_000, "one_leg", "low"): 77})

#: The method whose rollouts both students learn from.
TEACHER: Final = "DP + Residual PPO"

_ON_TOP: Final = MappingProxyType(
    {
        "residual-ppo": "Residual PPO",
        "residual-offpolicy": "off-policy residual",
        "chunk-ppo": "PPO",
        "idql": "IDQL",
    }
)


def base_method(config: Mapping[str, Any]) -> str:
    """The paper's name of a run's base policy, or ours where the paper has none."""
    if config["contract"]["observation"] == "image":
        return "DP on images"
    policy = config["base"]["policy"]
    if policy["kind"] == "mlp":
        return "MLP-S" if policy["prediction_horizon"] == 1 else "MLP-C"
    return "DP" if policy["kind"] == "diffusion" else str(policy["kind"]).upper()


def method(config: Mapping[str, Any]) -> str:
    """The paper's name of a run's method, such as "DP + Residual PPO", or ours where the paper has none."""
    if config["algorithm"] == "bc":
        return base_method(config)
    return f"{base_method(config)} + {_ON_TOP.get(config['algorithm'], config['algorithm'])}"
