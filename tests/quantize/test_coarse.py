"""The coarse quantizer."""

import torch

from poeem.quantize import coarse


def test_assign_and_decode():
    centroids = torch.tensor([[0.0, 0.0], [4.0, 0.0]], requires_grad=True)
    lists = coarse.assign(torch.tensor([[1.0, 5.0], [3.0, 0.0]]), centroids.detach())
    assert lists.tolist() == [0, 1]
    coarse.decode(lists, centroids).sum().backward()
    assert centroids.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]
