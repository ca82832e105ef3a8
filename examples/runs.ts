/*
 * Answers that continue after the request that asked for them: a page that is loaded again continues to read.
 *
 *   npx tsx examples/runs.ts         http://localhost:3000 is a page that asks, follows and stops
 *   curl -N -H 'Content-Type: application/json' -d '{"id":"a1","prompt":"what is a reset"}' http://localhost:3000/answers
 *   curl -N http://localhost:3000/answers/a1
 *   curl -X DELETE http://localhost:3000/answers/a1
 */
import { fileURLToPath } from 'node:url';
import { complete } from './model.ts';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { runs } from '../lib/runs/index.ts';

const app = express();
// #region readme
const answers = runs((run, req) => complete(req.body.prompt, run.signal), {
  id: (req) => req.body?.id, // the page made it, so it can ask for the answer again
});
app.use('/answers', express.json(), answers);
// #endregion readme
// #endregion docs

app.get('/', (_req, res) => res.sendFile(fileURLToPath(new URL('runs-page.html', import.meta.url))));
await running(app.listen(process.env.PORT ?? 3000), () => answers.close({ wait: 10_000 }));
