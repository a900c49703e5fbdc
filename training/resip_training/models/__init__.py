"""Networks: normaliser, image encoder, denoiser and the diffusion policy made of them."""
