"""Tokens of pairs on disk: frozen features are computed once, then read at the speed of memory."""

from .layout import Plan, Span, differences, extend_plan
from .shard import PairName, TokenShape
from .store import FeatureStore, PairNames
from .verify import StoreReport, verify_store
from .writer import FeatureStoreWriter, Part, open_store_writer

__all__ = [
    "FeatureStore",
    "FeatureStoreWriter",
    "PairName",
    "PairNames",
    "Part",
    "Plan",
    "Span",
    "StoreReport",
    "TokenShape",
    "differences",
    "extend_plan",
    "open_store_writer",
    "verify_store",
]
