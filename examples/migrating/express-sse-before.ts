/*
 * The scores of a game with express-sse: what express-sse-after.ts replaces. A client that connects receives the scores so far.
 *
 *   npx tsx examples/migrating/express-sse-before.ts
 *   curl -N http://localhost:3000/scores
 *   curl -H 'Content-Type: application/json' -d '{"team":"reds","points":1}' http://localhost:3000/scores
 */
import { running } from '../running.ts';
// #region docs
import express from 'express';
import SSE from 'express-sse';

const app = express();
const scores: Record<string, number> = { reds: 0, blues: 0 };
const stream = new SSE([scores], { isSerialized: false, initialEvent: 'scores' });

app.get('/scores', (req, res) => stream.init(req, res));

app.post('/scores', express.json(), (req, res) => {
  const { team, points } = req.body;
  scores[team] = (scores[team] ?? 0) + points;
  stream.updateInit([scores]);
  stream.send({ team, points: scores[team] }, 'score');
  res.sendStatus(204);
});

const server = app.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, async () => server.closeAllConnections());
