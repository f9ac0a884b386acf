"""Which places of a pair the model reads, and which it is asked for."""

from __future__ import annotations

import torch

from laq_model.action_model.places import gather_places, place_order, take_largest
from moving_box import (
    build,
    moving_box,
)


def test_take_largest_by_hand():
    key = torch.tensor([[1.0, 5.0, 5.0, 9.0]])
    index, is_taken = take_largest(key, torch.tensor([[True, True, True, False]]), 2)
    assert index.tolist() == [[1, 2]]
    assert is_taken.tolist() == [[True, True]]
    index, is_taken = take_largest(key, torch.tensor([[False, True, False, False]]), 9)
    assert index[0, 0] == 1
    assert is_taken.tolist() == [[True, False, False, False]]


def test_queries_are_changed_places_and_an_even_draw_of_the_rest():
    tokens, displacement = moving_box(40)
    model = build().eval()
    places = model._places(tokens)
    task = model._task(places, is_random=False)
    assert task.is_query.all()
    assert all(len(set(row.tolist())) == 16 for row in task.query_index)
    size = places.change_size.gather(1, task.query_index)
    moved = displacement.abs().sum(1) > 0
    assert (size[moved, 0] > 0).all()
    num_changed = (places.change_size > 0).sum(1)
    assert torch.equal((size[:, :8] > 0).sum(1), num_changed.clamp(max=8))
    # The draw of the rest spreads over both layers, which alternate in the order of tokens.
    air = (task.query_index[:, 8:] % 2).float().mean()
    assert 0.3 < float(air) < 0.7


def test_place_order_is_even_and_a_property_of_the_place():
    axis = (torch.arange(20) + 0.5) / 10 - 1
    place = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(1, -1, 3)
    order = place_order(place)[0]
    assert (order >= 0).all()
    assert (order < 1).all()
    share = torch.histc(order, bins=10, min=0, max=1) / 8000
    assert (share - 0.1).abs().max() < 0.015  # four standard errors of a fair draw
    neighbours = torch.corrcoef(torch.stack([order[:-1], order[1:]]))[0, 1]
    assert neighbours.abs() < 0.05
    flipped = place_order(place.flip(1))[0].flip(0)
    assert torch.equal(order, flipped)


def test_gather_places_takes_each_pair_s_own_rows():
    value = torch.arange(12.0).reshape(2, 3, 2)
    assert gather_places(value, torch.tensor([[2], [0]])).tolist() == [[[4.0, 5.0]], [[6.0, 7.0]]]
