"""A VAE of one's own training loop, certified in four lines: the last four."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from certvae import certify_latents

torch.manual_seed(0)
x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
x_train, x_certify = x[:1200], x[1200:]
encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * 8))
decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())
optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
for _ in range(40):
    for batch in x_train[torch.randperm(len(x_train))].split(100):
        mu, logvar = encoder(batch).chunk(2, dim=1)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(dim=1)
        loss = (functional.mse_loss(decoder(z), batch, reduction="none").sum(dim=1) / 0.1 + kl).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

mu_train, logvar_train = encoder(x_train).chunk(2, dim=1)
mu, logvar = encoder(x_certify).chunk(2, dim=1)
found = certify_latents(train=(mu_train, x_train), certify=(mu, x_certify), logvar=(logvar_train, logvar))
print(found)
