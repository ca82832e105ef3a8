/*
 * A stream of tokens over POST, as language models send it, for clients that read with fetch. It stops when the client disconnects.
 *
 *   npx tsx examples/token-stream.ts
 *   curl -N -H 'Content-Type: application/json' -d '{"prompt":"what is a reset"}' http://localhost:3000/answers
 */
import { complete } from './model.ts';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

// #region readme
const answers = sse(
  async function* (conn, req) {
    for await (const token of complete(req.body?.prompt ?? '', conn.signal)) yield { event: 'token', data: token };
  },
  { methods: ['POST'], history: false },
);
// #endregion readme
const app = express();
app.use('/answers', express.json(), answers);
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => answers.close());
