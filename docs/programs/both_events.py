"""An echo server that asks for both kinds of events. Prints how often its first second had one."""

import selectors
import socket
import sys
import time

selector = selectors.DefaultSelector()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(f"Listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
connection, _ = listener.accept()
connection.setblocking(False)
selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
end = time.monotonic() + 1
events = 0
while time.monotonic() < end:
    for key, mask in selector.select(1):
        events += 1
        if mask & selectors.EVENT_READ:
            connection.sendall(connection.recv(1024))
print(f"{events} events, and not one byte", flush=True)
