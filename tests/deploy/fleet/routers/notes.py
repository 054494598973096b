from __future__ import annotations

from core.queue.queue_manager import dispatch
from core.router import Router
from tests.deploy.fleet.jobs.write_note import WriteNote


async def note(name: str) -> None:
    await dispatch(WriteNote(name=name))


router = Router()
router.on("notes/{name}", note)
