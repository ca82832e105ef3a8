/*
 * Notes for users with socket.io, which is used only towards the client: what socket-io-after.ts replaces.
 *
 *   npx tsx examples/migrating/socket-io-before.ts
 *   curl -H 'Content-Type: application/json' -d '{"text":"Lunch?"}' http://localhost:3000/notes/ada
 */
import { userOf } from './user-of.ts';
import { running } from '../running.ts';
// #region docs
import { createServer } from 'node:http';
import express from 'express';
import { Server } from 'socket.io';

const app = express();
const server = createServer(app);
const io = new Server(server);

io.use((socket, next) => {
  socket.data.user = userOf(socket.handshake.headers.cookie);
  next(socket.data.user ? undefined : new Error('unauthorized'));
});
io.on('connection', (socket) => {
  void socket.join(`user:${socket.data.user}`);
  socket.emit('hello', { user: socket.data.user });
});

app.post('/notes/:user', express.json(), (req, res) => {
  io.to(`user:${req.params.user}`).emit('note', req.body);
  res.sendStatus(204);
});

app.post('/logout/:user', (req, res) => {
  io.in(`user:${req.params.user}`).disconnectSockets();
  res.sendStatus(204);
});

server.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, () => io.close());
