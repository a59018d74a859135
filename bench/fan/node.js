// The peers of `bench/fanout.py` on node: `ws` or `socket.io`, as their documentation has a broadcast. One channel;
// `POST /publish` gives its body to everybody who is connected (socket.io: to a room).
const http = require('http');

const server = http.createServer((request, answer) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    publish(Buffer.concat(parts));
    answer.writeHead(200, { 'content-type': 'application/json', 'content-length': 2 });
    answer.end('{}');
  });
});
let publish;

if (process.argv[2] === 'ws') {
  const { WebSocket, WebSocketServer } = require('ws');
  const sockets = new WebSocketServer({ server, perMessageDeflate: false });
  publish = (event) => {
    for (const client of sockets.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(event, { binary: false });
    }
  };
} else {
  const { Server } = require('socket.io');
  // Its signs of life would come in the middle of a measurement; the others have none in that time either.
  const io = new Server(server, { transports: ['websocket'], serveClient: false, pingInterval: 600000 });
  io.on('connection', (socket) => {
    socket.on('join', () => {
      socket.join('bench');
      socket.emit('joined');
    });
  });
  publish = (event) => io.to('bench').emit('event', event.toString());
}
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
