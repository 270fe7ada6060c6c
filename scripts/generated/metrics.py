"""The metrics of `scripts/targets`, for generated problems."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.targets.metrics import compare

__all__ = ["compare"]
