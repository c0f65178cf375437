"""AutoencoderKL of diffusers with random weights, certified. `pip install diffusers`; nothing of certvae needs it."""

import torch
from diffusers import AutoencoderKL
from sklearn.datasets import load_digits

from certvae import certify_latents

torch.manual_seed(0)
x = torch.tensor(load_digits().images[:, None] / 16, dtype=torch.float32)
sizes = {"block_out_channels": (16,), "norm_num_groups": 4, "latent_channels": 1}
vae = AutoencoderKL(in_channels=1, out_channels=1, **sizes).eval()

with torch.no_grad():
    train, certify = vae.encode(x[:1200]).latent_dist, vae.encode(x[1200:]).latent_dist
logvar = train.logvar, certify.logvar
print(certify_latents((train.mean, x[:1200]), (certify.mean, x[1200:]), logvar=logvar))
