"""MongoDB for tests: the double, or a real server."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo import MongoClient

from ..mongo_double import MongoDouble

SERVER_VARIABLE = "LRLO_TEST_MONGODB_URI"


@contextmanager
def mongodb_uri() -> Iterator[str]:
    """URI of a fresh database: on a real server if one is named, else on the double."""
    name = f"lrlo_test_{uuid.uuid4().hex[:12]}"
    server = os.environ.get(SERVER_VARIABLE)
    if server is None:
        with MongoDouble() as double:
            yield f"{double.uri}/{name}"
        return
    address, _, options = server.partition("?")
    scheme, _, hosts = address.partition("://")
    uri = f"{scheme}://{hosts.split('/')[0]}/{name}" + (f"?{options}" if options else "")
    try:
        yield uri
    finally:
        client: MongoClient = MongoClient(uri)
        client.drop_database(name)
        client.close()
