"""tuspy. It makes no retries of its own here: each attempt is a new uploader, which finds the URL of the one before it
in a file and asks the server for the offset.

Run as a module it is a client of ``jobs.ClientProcess``; a process of its own, because tuspy leaves files open.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage

ATTEMPTS = 20


def upload(job: dict[str, Any]) -> dict[str, Any]:
    storage = FileStorage(job["memory"])
    try:
        for attempt in range(ATTEMPTS):
            try:
                uploader = TusClient(job["url"]).uploader(
                    job["file"],
                    chunk_size=job["chunk"],
                    metadata={"filename": Path(job["file"]).name, "filetype": job["type"]},
                    store_url=True,
                    url_storage=storage,
                    upload_checksum=job["checksum"],
                )
                uploader.upload()
            except TusCommunicationError as error:
                failure = str(error)
            else:
                return {"url": uploader.url, "resumed": attempt, "bytes": uploader.offset}
        return {"error": f"given up after {ATTEMPTS} attempts: {failure}"}
    finally:
        storage.close()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(upload(json.loads(line))), flush=True)
