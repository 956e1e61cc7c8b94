"""The in-batch softmax against the slow way."""

import math

import pytest
import torch
import torch.nn.functional as F

from poeem.errors import ConfigError, DtypeError, NonFiniteError, ShapeError
from poeem.training import losses
from poeem.training.losses import (
    catalogue_softmax,
    distillation_loss,
    equal_pairs,
    in_batch_softmax,
    list_softmax,
)


def test_a_temperature_is_learned_through_the_queries():
    scale = torch.tensor(0.3, requires_grad=True)
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    with pytest.raises(ConfigError, match="queries / temperature"):
        in_batch_softmax(a, b, temperature=scale)
    with pytest.raises(ConfigError, match=r"log_q\.detach"):
        in_batch_softmax(a, b, temperature=0.3, log_q=torch.zeros(6, requires_grad=True))
    loss = in_batch_softmax(a / scale, b, temperature=1.0)
    assert loss.item() == pytest.approx(in_batch_softmax(a, b, temperature=0.3).item(), rel=1e-5)
    loss.backward()
    assert scale.grad is not None
    assert in_batch_softmax(a, b, temperature=scale.detach()).item() == pytest.approx(loss.item())


def slow(queries, items, temperature, user_ids=None, item_ids=None, log_q=None):
    logits = queries @ items.T / temperature
    if log_q is not None:
        logits = logits - log_q
    for ids in (user_ids, item_ids):
        if ids is not None:
            same = ids.unsqueeze(1) == ids
            logits = logits.masked_fill(same.fill_diagonal_(False), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(queries)))


@pytest.mark.parametrize("block", [1, 100, 2**20])
@pytest.mark.parametrize("masked", [True, False])
def test_value_and_gradient_equal_the_slow_way(block, masked, monkeypatch):
    monkeypatch.setattr(losses, "_CPU_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    queries, items = torch.randn(2, 37, 8, generator=generator).unbind()
    extra = {}
    if masked:
        extra = {
            "user_ids": torch.randint(10, (37,), generator=generator),
            "item_ids": torch.randint(10, (37,), generator=generator),
            "log_q": torch.randn(37, generator=generator),
        }
    results = []
    for loss in (in_batch_softmax, slow):
        a, b = queries.clone().requires_grad_(), items.clone().requires_grad_()
        value = loss(a, b, temperature=0.3, **extra)
        (2 * value).backward()
        results.append((value.detach(), a.grad, b.grad))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


def test_accidental_hits_do_not_count_as_negatives():
    queries = torch.eye(3)
    items = torch.eye(3)
    alone = in_batch_softmax(queries, items, temperature=1.0, item_ids=torch.tensor([5, 5, 5]))
    assert alone.item() == pytest.approx(0)  # all negatives masked: nothing to confuse with


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_float32_inside_whatever_is_outside(dtype):
    generator = torch.Generator().manual_seed(0)
    queries, items = F.normalize(torch.randn(2, 20, 8, generator=generator), dim=2).unbind()
    queries, items = queries.to(dtype).requires_grad_(), items.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = in_batch_softmax(queries, items, temperature=0.01)
    loss.backward()
    wanted = slow(queries.detach().float(), items.detach().float(), 0.01)
    torch.testing.assert_close(loss.detach(), wanted)
    assert queries.grad.dtype == dtype


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"temperature": 0.0}, ConfigError, "temperature: got 0.0"),
        ({"temperature": float("inf")}, ConfigError, "temperature"),
        ({"queries": torch.ones(3, 2)}, ShapeError, "got 3 and 4 rows"),
        ({"queries": torch.ones(4, 3)}, ShapeError, r"queries: got shape \[4, 3\]"),
        ({"queries": torch.ones(0, 2), "items": torch.ones(0, 2)}, ShapeError, "empty batch"),
        ({"items": torch.full((4, 2), torch.nan)}, NonFiniteError, "items: NaN"),
        ({"items": torch.ones(4, 2).long()}, DtypeError, "items"),
        ({"item_ids": torch.arange(3)}, ShapeError, r"item_ids: got shape \[3\], wanted \[4\]"),
        ({"user_ids": torch.arange(5)}, ShapeError, "user_ids"),
        ({"item_ids": torch.arange(4.0)}, DtypeError, "item_ids: got torch.float32, wanted int"),
        ({"log_q": torch.ones(4, 1)}, ShapeError, "log_q"),
        ({"item_ids": [0, 1, 2, 3]}, DtypeError, "item_ids: got list, wanted a tensor"),
    ],
)
def test_bad_input(changes, error, message):
    arguments = {"queries": torch.ones(4, 2), "items": torch.ones(4, 2), "temperature": 0.1}
    with pytest.raises(error, match=message):
        in_batch_softmax(**(arguments | changes))


def test_large_scores_do_not_overflow():
    vectors = 100 * torch.eye(4)
    assert in_batch_softmax(vectors, vectors, temperature=0.01).item() == pytest.approx(0)


@pytest.mark.parametrize(
    ("n", "rows", "num_ids"), [(1, 1, 1), (10, 3, 4), (64, 64, 100), (50, 7, 1)]
)
def test_equal_pairs_equal_the_slow_way(n, rows, num_ids):
    ids = torch.randint(num_ids, (n,), generator=torch.Generator().manual_seed(n))
    found = equal_pairs(ids, rows)
    slow = [(part.unsqueeze(1) == ids).view(-1).nonzero()[:, 0] for part in ids.split(rows)]
    assert len(found) == len(slow)
    for got, wanted in zip(found, slow, strict=True):
        assert torch.equal(got.sort().values, wanted)


@pytest.mark.parametrize("block", [1, 100, 2**20])
def test_catalogue_softmax_equals_the_slow_way(block, monkeypatch):
    monkeypatch.setattr(losses, "_CPU_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(n, 8, generator=generator) for n in (37, 37, 23)]
    mask = torch.rand(37, 23, generator=generator) < 0.3
    mask[5] = True  # nothing left to compare this query with
    results = []
    for fast in (True, False):
        queries, items, negatives = (part.clone().requires_grad_() for part in given)
        if fast:
            known = mask.nonzero().unbind(1)
            value = catalogue_softmax(
                queries, items, negatives, temperature=0.3, known=known, num_items=69
            )
        else:
            own = (queries * items).sum(1, keepdim=True) / 0.3
            others = (queries @ negatives.T / 0.3 + math.log(69 / 23)).masked_fill(mask, -torch.inf)
            value = F.cross_entropy(torch.cat([own, others], 1), torch.zeros(37).long())
        (2 * value).backward()
        results.append((value.detach(), queries.grad, items.grad, negatives.grad))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


def test_catalogue_softmax_refuses_negatives_of_another_length():
    vectors, nothing = torch.ones(4, 2), torch.zeros(0).long()
    with pytest.raises(ShapeError, match=r"negatives: got shape \[3, 3\]"):
        catalogue_softmax(
            vectors,
            vectors,
            torch.ones(3, 3),
            temperature=0.1,
            known=(nothing, nothing),
            num_items=9,
        )


@pytest.mark.parametrize("num_lists", [1, 5, 500])
@pytest.mark.parametrize("block", [1, 40, 2**20])
def test_list_softmax_equals_the_softmax_over_the_batch(num_lists, block, monkeypatch):
    monkeypatch.setattr(losses, "_CPU_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    lists = torch.randint(num_lists, (37,), generator=generator)
    given = [torch.randn(37, 8, generator=generator)]
    given.append(torch.randn(num_lists, 8, generator=generator)[lists])
    results = []
    for fast in (True, False):
        queries, rows = (part.clone().requires_grad_() for part in given)
        if fast:
            value = list_softmax(queries, rows, lists, temperature=0.3)
        else:
            value = in_batch_softmax(queries, rows, temperature=0.3, item_ids=lists)
        (2 * value).backward()
        results.append((value.detach(), queries.grad, rows.grad))  # rows: straight-through to items
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


def test_list_softmax_refuses_lists_of_other_rows():
    with pytest.raises(ShapeError, match=r"lists: got shape \[3\], wanted \[4\]"):
        list_softmax(torch.ones(4, 2), torch.ones(4, 2), torch.arange(3), temperature=0.1)


def test_catalogue_softmax_refuses_a_catalogue_of_nothing():
    vectors, nothing = torch.ones(4, 2), torch.zeros(0).long()
    known = (nothing, nothing)
    with pytest.raises(ConfigError, match="num_items: got 0"):
        catalogue_softmax(vectors, vectors, vectors, temperature=0.1, known=known, num_items=0)


def slow_distillation(queries, vectors, teacher_queries, teacher_vectors, temperature, known=None):
    logits, wanted = queries @ vectors.T / temperature, teacher_queries @ teacher_vectors.T
    total = torch.zeros(())
    for row in range(len(queries)):
        counts = torch.ones(len(vectors), dtype=torch.bool)
        if known is not None:
            counts[known[1][known[0] == row]] = False
        p = (wanted[row, counts] / temperature).softmax(0)
        q = logits[row, counts].softmax(0)
        total = total + (p * (p / q).log()).sum()
    return total / len(queries)


@pytest.mark.parametrize("block", [1, 100, 2**20])
@pytest.mark.parametrize("masked", [True, False])
def test_distillation_equals_the_slow_way(block, masked, monkeypatch):
    monkeypatch.setattr(losses, "_CPU_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    queries, vectors = (torch.randn(n, 8, generator=generator) for n in (13, 29))
    taught = {
        "teacher_queries": torch.randn(13, 5, generator=generator),
        "teacher_vectors": torch.randn(29, 5, generator=generator),
    }
    known = None
    if masked:  # the last query had all of the items
        cells = torch.rand(13, 29, generator=generator) < 0.3
        cells[-1] = True
        known = cells.nonzero(as_tuple=True)
    results = []
    for loss in (distillation_loss, slow_distillation):
        a, b = queries.clone().requires_grad_(), vectors.clone().requires_grad_()
        value = loss(a, b, temperature=0.3, known=known, **taught)
        (2 * value).backward()
        results.append((value.detach(), a.grad, b.grad))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=5e-6, rtol=1e-5)


def test_who_scores_as_the_teacher_has_nothing_to_learn():
    vectors = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = distillation_loss(
        vectors[:3], vectors, teacher_queries=vectors[:3], teacher_vectors=vectors, temperature=0.1
    )
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert vectors.grad.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"temperature": -1.0}, ConfigError, "temperature: got -1.0"),
        ({"queries": torch.ones(4, 3)}, ShapeError, r"queries: got shape \[4, 3\]"),
        ({"vectors": [[1.0, 2.0]]}, DtypeError, "vectors"),
        ({"vectors": torch.ones(6, 2)}, ShapeError, "teacher_vectors: got 5 rows, wanted 6"),
        (
            {"teacher_queries": torch.ones(3, 7)},
            ShapeError,
            "teacher_queries: got 3 rows, wanted 4",
        ),
        ({"teacher_queries": torch.ones(4, 6)}, ShapeError, r"teacher_queries: got shape \[4, 6\]"),
        (
            {"teacher_vectors": torch.full((5, 7), torch.nan)},
            NonFiniteError,
            "teacher_vectors: NaN",
        ),
    ],
)
def test_bad_input_of_distillation(changes, error, message):
    arguments = {
        "queries": torch.ones(4, 2),
        "vectors": torch.ones(5, 2),
        "teacher_queries": torch.ones(4, 7),
        "teacher_vectors": torch.ones(5, 7),
        "temperature": 0.1,
    }
    with pytest.raises(error, match=message):
        distillation_loss(**(arguments | changes))


@pytest.mark.parametrize("bad", [-torch.inf, torch.nan, torch.inf])
def test_the_logarithm_of_nothing_is_refused(bad):
    q, y = torch.randn(6, 4), torch.randn(6, 4)
    log_q = torch.full((6,), -2.0)
    log_q[3] = bad
    with pytest.raises(NonFiniteError, match="log_q: NaN or infinity in rows 3; wanted logarithms"):
        in_batch_softmax(q, y, temperature=0.3, log_q=log_q)


REFUSED = r"once_differentiable|used in the graph|not require grad"


def test_second_derivatives_are_refused_and_not_wrong():
    q, y = (torch.randn(6, 4, requires_grad=True) for _ in range(2))
    losses = (
        in_batch_softmax(q, y, temperature=0.3) ** 2,
        distillation_loss(
            q,
            y,
            teacher_queries=torch.randn(6, 4),
            teacher_vectors=torch.randn(6, 4),
            temperature=0.3,
        ),
    )
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss, q, create_graph=True)
        with pytest.raises(RuntimeError, match=REFUSED):
            torch.autograd.grad(gradient.square().sum(), q)
