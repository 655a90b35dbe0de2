#!/usr/bin/env python3
"""Python's TLS in front of a program that has none: one listener, each connection carried on to one target.

    tls_relay.py accept HOST:PORT AUTHORITY CERTIFICATE KEY    takes TLS, goes on in the clear; prints tls://127.0.0.1:PORT
    tls_relay.py dial   HOST:PORT AUTHORITY CERTIFICATE KEY    takes the clear, goes on in TLS; prints tcp://127.0.0.1:PORT

Both sides of TLS show the certificate and want one of the authority. Ends when stdin does.
"""

from __future__ import annotations

import asyncio
import ssl
import sys


async def main() -> None:
    way, target, authority, certificate, key = sys.argv[1:]
    host, port = target.rsplit(":", 1)
    purpose = ssl.Purpose.CLIENT_AUTH if way == "accept" else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    inner, outer = (context, None) if way == "accept" else (None, context)

    async def serve(near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port), ssl=outer)
        except OSError:
            near_writer.close()
            return
        await asyncio.gather(carry(near_reader, far_writer), carry(far_reader, near_writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=inner)
    scheme = "tls" if way == "accept" else "tcp"
    print(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Octets one way until their end; the other way then ends too, for TLS knows no half-closed connection."""
    try:
        while octets := await reader.read(1 << 18):
            writer.write(octets)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


asyncio.run(main())
