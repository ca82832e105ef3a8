/*
 * Passes the event stream of another server through, such as that of a language model behind your own authorisation.
 *
 *   UPSTREAM=https://api.openai.com/v1/chat/completions KEY=… npx tsx examples/upstream-stream.ts
 */
import { running } from './running.ts';
// #region docs
import { EventSourceParserStream } from 'eventsource-parser/stream';
import express from 'express';
import { sse } from '../lib/index.ts';

const { UPSTREAM = 'http://localhost:3000/v1/chat/completions', KEY = '' } = process.env;

const answers = sse(
  async (conn, req, res) => {
    const upstream = await fetch(UPSTREAM, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${KEY}` },
      body: JSON.stringify(req.body),
      signal: conn.signal, // if the client disconnects, the upstream stops as well
    });
    if (!upstream.ok) return res.status(upstream.status).send(await upstream.text());
    const events = upstream.body!.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    await conn.pushAll(events); // if the upstream breaks off, so does this answer
    conn.end();
  },
  { methods: ['POST'], history: false },
);
const app = express();
app.use('/answers', express.json({ limit: '10mb' }), answers);
// #endregion docs

await running(app.listen(process.env.PORT ?? 3001), () => answers.close());
