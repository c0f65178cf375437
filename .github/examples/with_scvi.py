"""Cells, not images: SCVI, watched and then certified. `pip install scvi-tools`; nothing of certvae needs it."""

import anndata
import numpy as np
import scvi
import torch

from certvae import Monitor, certify_latents

scvi.settings.seed = 0
draw = np.random.default_rng(0)
kinds, profiles = draw.integers(5, size=2500), draw.gamma(0.3, size=(5, 200))
counts = draw.poisson(draw.lognormal(3, 0.3, size=(2500, 1)) * profiles[kinds] / 10).astype(np.float32)
train, guard, certify = np.split(counts, [1000, 1500])

scvi.model.SCVI.setup_anndata(cells := anndata.AnnData(train))
model = scvi.model.SCVI(cells)


def encode(plan, x):  # as SCVI does it, all cells from one batch of the laboratory
    posterior, _ = plan.module.z_encoder(torch.log1p(x), torch.zeros(len(x), 1))
    return posterior.loc, posterior.variance.log()


teacher = 0.95 * np.eye(5)[kinds[1000:1500]] + 0.01  # kinds of cells; or a mixture: certvae.fit_teacher
monitor = Monitor(teacher, torch.from_numpy(guard), every=50)  # steps; else as seldom as takes 2 % of the time
model.train(max_epochs=20, callbacks=[monitor.lightning(encode)])
print(monitor.observations[-1])

codes = [model.get_latent_representation(anndata.AnnData(x), return_dist=True) for x in (train, certify)]
(mu_train, var_train), (mu, var) = codes
logvar = np.log(var_train), np.log(var)
print(certify_latents((mu_train, np.log1p(train)), (mu, np.log1p(certify)), logvar=logvar, classes=5))
