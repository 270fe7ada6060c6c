"""Optimisers for torch networks: ``KFAC``."""

from surrogate.networks.kfac import KFAC

__all__ = ["KFAC"]
