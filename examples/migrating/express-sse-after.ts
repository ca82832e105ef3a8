/*
 * The scores of a game, after the move from express-sse-before.ts. The snapshot reaches only the client that connects.
 *
 *   npx tsx examples/migrating/express-sse-after.ts
 *   curl -N http://localhost:3000/scores
 *   curl -H 'Content-Type: application/json' -d '{"team":"reds","points":1}' http://localhost:3000/scores
 */
import { running } from '../running.ts';
// #region docs
import express from 'express';
import { sse } from '../../lib/index.ts';

const app = express();
const scores: Record<string, number> = { reds: 0, blues: 0 };
const stream = sse({
  snapshot: () => ({ event: 'scores', data: [scores] }),
  serialize: JSON.stringify, // a text is sent in quotes, as before
});

app.post('/scores', express.json(), async (req, res) => {
  const { team, points } = req.body;
  scores[team] = (scores[team] ?? 0) + points;
  await stream.broadcast({ event: 'score', data: { team, points: scores[team] } });
  res.sendStatus(204);
});

app.use('/scores', stream); // after the route for POST: the router answers a POST with 405

const server = app.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, () => stream.close());
