"""However a batch is shared, every row gets the random numbers that it has in the whole batch."""

import torch

from laq_model.batch_rows import normal_rows, step_generator, uniform_rows

CPU = torch.device("cpu")


def draws(generator: torch.Generator, num_rows: int) -> list[torch.Tensor]:
    """In the order in which a forward pass draws: of several kinds, one after the other."""
    return [
        uniform_rows((num_rows,), generator=generator, device=CPU),
        normal_rows((num_rows, 4, 3), generator=generator, device=CPU, dtype=torch.float32),
        uniform_rows((num_rows, 5), generator=generator, device=CPU),
    ]


def test_a_row_draws_the_same_in_any_share():
    whole = draws(step_generator(7, first_row=0, batch_size=10), 10)
    for first, last in ((0, 10), (0, 5), (5, 10), (3, 4)):
        share = draws(step_generator(7, first_row=first, batch_size=10), last - first)
        for part, all_rows in zip(share, whole, strict=True):
            assert torch.equal(part, all_rows[first:last])


def test_rows_draw_different_numbers():
    noise = draws(step_generator(7, first_row=0, batch_size=10), 10)[1]
    assert len({tuple(row.flatten().tolist()) for row in noise}) == 10


def test_a_plain_generator_draws_as_torch_does():
    expected = torch.rand(3, 2, generator=torch.Generator().manual_seed(1))
    drawn = uniform_rows((3, 2), generator=torch.Generator().manual_seed(1), device=CPU)
    assert torch.equal(drawn, expected)
