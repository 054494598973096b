"""What the sensors measured. The table is made by migrations/versions/0002_readings.py."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Double, String
from sqlalchemy.orm import Mapped, mapped_column

from core.model import Model


class Reading(Model):
    """One reading. Its key is what the sensor says, not a number of ours: stored twice, it is still one row."""

    __tablename__ = "readings"

    site: Mapped[str] = mapped_column(String(64), primary_key=True)
    sensor: Mapped[str] = mapped_column(String(64), primary_key=True)
    taken_at: Mapped[datetime] = mapped_column(primary_key=True)
    temperature: Mapped[float] = mapped_column(Double)  # °C
