// Node: what it cannot write at once it keeps, and the socket is not read from until it has gone.

const net = require("node:net");

const [host, port] = (process.argv[2] || "127.0.0.1:0").split(":");

const server = net.createServer({ noDelay: true }, (socket) => {
  socket.on("data", (bytes) => {
    if (!socket.write(bytes)) socket.pause();
  });
  socket.on("drain", () => socket.resume());
  socket.on("error", () => socket.destroy());
});

server.listen({ host, port: Number(port), backlog: 4096 }, () => {
  const { address, port } = server.address();
  console.log(`Listening on ${address}:${port}`);
});
