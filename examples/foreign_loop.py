"""The layer in somebody else's training loop: four lines of it are ours."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

import poeem

# Somebody else's data and model: 2,000 items, queries are noisy copies of what they look for.
rng = torch.Generator().manual_seed(0)
features = torch.randn(2000, 32, generator=rng)
query_tower, item_tower = torch.nn.Linear(32, 64), torch.nn.Linear(32, 64)

layer = poeem.IndexLayer(dim=64, num_subspaces=8, num_codewords=256, pass_through_steps=50)  # 1
optimizer = torch.optim.Adam(
    [*query_tower.parameters(), *item_tower.parameters(), *layer.euclidean_parameters()], lr=1e-3
)

for step in range(400):
    chosen = torch.randint(2000, (512,), generator=rng)
    noise = 0.3 * torch.randn(512, 32, generator=rng)
    queries = normalize(query_tower(features[chosen] + noise), dim=1)
    out = layer(normalize(item_tower(features[chosen]), dim=1))  # 2
    loss = cross_entropy(queries @ out.vectors.T / 0.07, torch.arange(512)) + out.loss  # 3
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 99:
        print(f"step {step + 1}: loss {loss.item():.3f}, phase {layer.phase.name}")

with torch.no_grad():
    items = normalize(item_tower(features), dim=1)
    asked = normalize(query_tower(features[:100]), dim=1)
index = poeem.build_index(layer, np.arange(2000), items)  # 4
index.save("items.poeem")
found, _ = poeem.Index.open("items.poeem").search(asked.numpy(), k=10)
share = (found == np.arange(100)[:, None]).any(1).mean()
print(f"the right item is among the first 10 for {share:.0%} of the queries")
