/*
 * A large file at the speed of each client: pushAll() waits while the client is behind, so the file never fills the memory.
 *
 *   FILE=README.md npx tsx examples/large-file.ts
 *   curl -N http://localhost:3000/file
 */
import { createReadStream } from 'node:fs';
import express from 'express';
import { sse } from '../lib/index.ts';
import { running } from './running.ts';

const { FILE = 'README.md' } = process.env;

// #region docs
const file = sse(async (conn) => {
  await conn.pushAll(createReadStream(FILE, 'utf8')); // waits while the client is behind
  conn.end();
});
// #endregion docs

const app = express();
app.use('/file', file);

await running(app.listen(process.env.PORT ?? 3000), () => file.close());
