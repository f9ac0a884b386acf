"""Which code follows which, from a pair to the next one that begins where it has ended."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..feature_store import PairName
from .code_groups import CodedPairs
from .page_sections import Row, Table

SHOWN_EACH = 4  # changes of each token position

TEXT = (
    "A pair is followed by the pair that begins where it ends, or soon after. By chance: how often the same "
    "would be seen if the order of the pairs told nothing, from how often each code occurs. An action that "
    "lasts longer than a pair shows as a code that follows itself."
)


@dataclass(frozen=True)
class Transition:
    """How often one code is followed by another at one token position.

    Attributes:
        by_chance: expected count if a code told nothing of its follower.
    """

    position: int
    code: int
    next_code: int
    count: int
    by_chance: float


def followers(names: Sequence[PairName]) -> list[tuple[int, int]]:
    """(row, row of the pair that follows): the first of the same video that starts when the pair has ended.

    Where it starts more than a pair's length later, something was left out, and nothing follows.
    """
    starts_of: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row, name in enumerate(names):
        starts_of[name.video].append((name.current_index, row))
    for starts in starts_of.values():
        starts.sort()
    found = []
    for row, name in enumerate(names):
        starts = starts_of[name.video]
        place = bisect_left(starts, (name.future_index, -1))
        length = name.future_index - name.current_index
        if place < len(starts) and starts[place][0] < name.future_index + length:
            found.append((row, starts[place][1]))
    return found


def transitions_at(
    pairs: CodedPairs, followed: Sequence[tuple[int, int]], *, position: int
) -> list[Transition]:
    """Every transition that occurs, most frequent first, equals by number."""
    codes = pairs.codes[:, position].tolist()
    seen = Counter((codes[row], codes[following]) for row, following in followed)
    first = Counter(codes[row] for row, _ in followed)
    second = Counter(codes[following] for _, following in followed)
    return [
        Transition(position, code, next_code, count, first[code] * second[next_code] / len(followed))
        for (code, next_code), count in sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    ]


def transition_table(pairs: CodedPairs) -> Table | None:
    """How often each token stays the same, and its most frequent changes; None if no pair follows another."""
    followed = followers(pairs.names)
    if not followed:
        return None
    rows = []
    for position in range(pairs.codes.shape[1]):
        found = transitions_at(pairs, followed, position=position)
        stays = [t for t in found if t.code == t.next_code]
        # Codes that occur and never follow themselves still would by chance.
        expected = _staying_by_chance(pairs, followed, position)
        rows.append(_row(f"token {position}: the same code again", sum(t.count for t in stays), expected))
        changes = [t for t in found if t.code != t.next_code and t.count > 1]
        rows += [
            _row(f"token {position}: {t.code} → {t.next_code}", t.count, t.by_chance)
            for t in changes[:SHOWN_EACH]
        ]
    return Table(
        "What follows what",
        ["transition", "times", "by chance"],
        rows,
        caption=f"{len(followed)} times a pair follows a pair",
        text=TEXT,
    )


def _staying_by_chance(pairs: CodedPairs, followed: Sequence[tuple[int, int]], position: int) -> float:
    codes = pairs.codes[:, position].tolist()
    first = Counter(codes[row] for row, _ in followed)
    second = Counter(codes[following] for _, following in followed)
    return sum(first[code] * second[code] for code in first) / len(followed)


def _row(name: str, count: int, by_chance: float) -> Row:
    return Row(name, [str(count), f"{by_chance:.1f}"])
