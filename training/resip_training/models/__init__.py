"""Networks: the base policies on states, the residual, and the diffusion policy on images."""
