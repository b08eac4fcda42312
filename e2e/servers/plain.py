"""Servers of few words, each `NAME HOST PORT`: what programs of a namespace serve while nobody told them of a mesh.

raw      HTTP/1.1: answers every request with the request's own head, byte by byte
tls      the same in TLS, with --certificate and --key
banner   speaks first, as mail servers do: 220, then 250 and the line for every line
"""

import argparse
import asyncio
import ssl


async def raw(reader, writer):
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            break
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(head) + head)
        await writer.drain()
    writer.close()


async def banner(reader, writer):
    writer.write(b"220 ready\r\n")
    while line := await reader.readline():
        writer.write(b"250 " + line)
        await writer.drain()
    writer.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("servers", nargs="+", metavar="NAME HOST PORT")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    words = iter(arguments.servers)
    for name, host, port in zip(words, words, words):
        context = None
        if name == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(arguments.certificate, arguments.key)
        serve = banner if name == "banner" else raw
        await asyncio.start_server(serve, host, int(port), ssl=context)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
