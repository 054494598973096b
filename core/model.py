"""The door to `Model`, the base of the app's models."""

from __future__ import annotations

from core.database.model import Model

__all__ = ["Model"]
