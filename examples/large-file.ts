/*
 * A large file at the speed of each client: pushAll() waits while the client is behind, so the file never fills the memory.
 *
 *   FILE=README.md npx tsx examples/large-file.ts
 *   curl -N http://localhost:3000/file
 */
import express from 'express';
import { running } from './running.ts';

process.env.FILE ??= 'README.md';
// #region readme
import { createReadStream } from 'node:fs';
import { sse } from '../lib/index.ts';

const file = sse(async (conn) => {
  await conn.pushAll(createReadStream(process.env.FILE!, 'utf8')); // waits while the client is behind
  conn.end();
});
// #endregion readme

const app = express();
app.use('/file', file);

await running(app.listen(process.env.PORT ?? 3000), () => file.close());
