# What the Isaac Gym worker uses of the fork of furniture-bench (github.com/ankile/furniture-bench, 52e7c68).

import torch
from isaacgym import gymapi

class FurnitureRLSimEnv:
    num_envs: int
    device: torch.device
    isaac_gym: gymapi.Gym
    sim: gymapi.Sim
    sim_steps: int
    rb_states: torch.Tensor
    base_idxs: list[int]
    lb_rest_poses: torch.Tensor
    _moving_bulbs: torch.Tensor
    def __init__(
        self,
        randomness: str,
        randomize_obstacle: bool = True,
        *,
        furniture: str,
        num_envs: int = 1,
        obs_keys: list[str] | None = None,
        concat_robot_state: bool = False,
        headless: bool = False,
        compute_device_id: int = 0,
        graphics_device_id: int = 0,
        max_env_steps: int = 3000,
        act_rot_repr: str = "rot_6d",
        action_type: str = "delta",
        ctrl_mode: str = "diffik",
    ) -> None: ...
    def reset(self, env_idxs: torch.Tensor | None = None) -> dict[str, dict[str, torch.Tensor]]: ...
    def step(
        self, action: torch.Tensor, sample_perturbations: bool = False
    ) -> tuple[dict[str, dict[str, torch.Tensor]], torch.Tensor, torch.Tensor, dict[str, bool]]: ...
    def get_observation(self) -> dict[str, dict[str, torch.Tensor]]: ...
    def get_parts_poses(self, sim_coord: bool = False, robot_coord: bool = False) -> torch.Tensor: ...
    def get_obstacle_pose(self, sim_coord: bool = False, robot_coord: bool = False) -> torch.Tensor: ...
