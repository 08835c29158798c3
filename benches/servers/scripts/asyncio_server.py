"""asyncio, or with uvloop as the second argument the same on uvloop: protocols, not streams."""

import asyncio
import socket
import sys


class Echo(asyncio.Protocol):
    __slots__ = ("transport",)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    # A client that does not read is not read from.
    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


def listening_socket(address):
    host, _, port = address.rpartition(":")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, int(port)))
    return listener


async def serve():
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0"
    listener = listening_socket(address)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, sock=listener, backlog=4096)
    print("Listening on {}:{}".format(*listener.getsockname()), flush=True)
    await server.serve_forever()


if sys.argv[2:] == ["uvloop"]:
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
asyncio.run(serve())
