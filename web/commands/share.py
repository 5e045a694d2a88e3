"""`anyloom share`: a workflow and the files that it reads as one file."""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath

from web import inbox, parcel
from web.commands.flags import settings_of
from web.commands.models import bytes_text
from web.commands.run import find
from web.commands.session import opened


async def share(arguments: argparse.Namespace) -> int:
    async with opened(arguments, settings_of(arguments), "anyloom share") as session:
        document = await find(session, arguments.workflow)
        name = inbox.safe_name(PurePosixPath(arguments.workflow).stem)
        path = await session.share(document, arguments.out or Path(name + parcel.SUFFIX))
        print(f"{path}  {bytes_text(path.stat().st_size)}")
        return 0
