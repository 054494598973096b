"""RateLimit, as the application's routers import it."""

from __future__ import annotations

from core.routing.rate_limit import RateLimit

__all__ = ["RateLimit"]
