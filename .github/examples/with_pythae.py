"""A VAE of pythae, certified. `pip install pythae`; nothing of certvae needs it."""

import torch
from pythae.models import VAE, VAEConfig
from sklearn.datasets import load_digits

from certvae import certify_latents

torch.manual_seed(0)
x = torch.tensor(load_digits().images[:, None] / 16, dtype=torch.float32)
model = VAE(VAEConfig(input_dim=(1, 8, 8), latent_dim=8))
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(30):
    for batch in x[:1200].split(100):
        optimiser.zero_grad()
        model({"data": batch}).loss.backward()
        optimiser.step()

model.eval()
train, certify = model.encoder(x[:1200]), model.encoder(x[1200:])
logvar = train.log_covariance, certify.log_covariance
print(certify_latents((train.embedding, x[:1200]), (certify.embedding, x[1200:]), logvar=logvar))
