"""LogMessages, as the application's routers import it."""

from __future__ import annotations

from core.routing.log_messages import LogMessages

__all__ = ["LogMessages"]
