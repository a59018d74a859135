// The peer of `bench/terminals.py`: one PTY per WebSocket, as the two libraries' own examples do it, but for bytes
// instead of text, which is faster. No output is held back or put together.
const pty = require('@lydell/node-pty');
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket) => {
  const shell = pty.spawn('bash', ['--norc', '--noprofile'], { cols: 80, rows: 24, encoding: null });
  shell.onData((data) => socket.send(data));
  shell.onExit(() => socket.close());
  socket.on('message', (message) => shell.write(message));
  socket.on('close', () => shell.kill('SIGKILL'));
});
