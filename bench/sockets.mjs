// Two ways to read a stream: a raw socket, which costs almost nothing, and node:http with gunzip for compressed streams.
// Invariant: `ready` resolves only after the head of a response with status 200.
import { get } from 'node:http';
import { connect } from 'node:net';
import { createGunzip } from 'node:zlib';

export function openSocket({ port, path, localAddress, lastEventId, onChunk, onEnd }) {
  const socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true });
  const id = lastEventId === undefined ? '' : `Last-Event-ID: ${lastEventId}\r\n`;
  socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAccept: text/event-stream\r\n${id}\r\n`);
  const ready = new Promise((resolve, reject) => {
    socket.once('data', (chunk) => {
      if (!chunk.toString('latin1', 0, 12).startsWith('HTTP/1.1 200')) {
        return reject(
          new Error(`The response must have status 200; received ${chunk.toString('latin1').slice(0, 200)}`),
        );
      }
      onChunk(chunk);
      socket.on('data', onChunk);
      resolve();
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('The server closed the connection before the head of the response')));
  });
  socket.on('error', () => {});
  socket.on('close', onEnd);
  return { ready, bytesRead: () => socket.bytesRead, abort: () => socket.resetAndDestroy() };
}

export function openGunzipped({ port, path, localAddress, onChunk, onEnd }) {
  let answered;
  const request = get({
    port,
    host: '127.0.0.1',
    path,
    localAddress,
    agent: false,
    headers: { 'Accept-Encoding': 'gzip' },
  });
  const ready = new Promise((resolve, reject) => {
    request.once('error', reject);
    request.once('response', (response) => {
      answered = response;
      if (response.statusCode !== 200)
        return reject(new Error(`The response must have status 200; received ${response.statusCode}`));
      const zipped = response.headers['content-encoding'] === 'gzip';
      if (!zipped) return reject(new Error('The stream is not compressed'));
      const plain = response.pipe(createGunzip());
      plain.on('data', onChunk);
      plain.on('error', () => {});
      response.on('error', () => {});
      response.on('close', onEnd);
      resolve();
    });
  });
  request.on('error', () => {});
  return { ready, bytesRead: () => answered?.socket.bytesRead ?? 0, abort: () => request.destroy() };
}
