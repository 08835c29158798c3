"""Talks to the server with the `websockets` package: its URL is the argument."""

import asyncio
import sys

import websockets

MESSAGE_MAX = 16 * 1024 * 1024


async def main(url):
    ws = await websockets.connect(url, max_size=None)
    await ws.send("héllo")
    assert await ws.recv() == "héllo"
    await ws.send(b"\x00\xff")
    assert await ws.recv() == b"\x00\xff"
    await ws.send(["in ", "three ", "pieces"])
    assert await ws.recv() == "in three pieces"
    await (await ws.ping())
    big = bytes(range(256)) * (MESSAGE_MAX // 256)
    await ws.send(big)
    assert await ws.recv() == big
    await ws.close(4000, "enough")
    assert (ws.close_code, ws.close_reason) == (4000, "enough")

    ws = await websockets.connect(url, max_size=None)
    try:
        await ws.send(big + b"x")
        await ws.recv()
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd.code == 1009, closed
    else:
        raise AssertionError("a message above the limit came back")
    print("all is well")


asyncio.run(main(sys.argv[1]))
