/*
 * An application to be tested, by shop.test.ts: each branch of a shop reads its own orders.
 */
import express from 'express';
import { sse } from '../lib/index.ts';

const BRANCHES = ['bergen', 'oslo'];

/** A new one for each test, so that they do not know one another. */
export function makeShop() {
  const app = express();
  const events = sse((conn, req, res) => {
    const branch = req.params.branch as string;
    if (!BRANCHES.includes(branch)) return void res.sendStatus(404);
    conn.join(branch);
    conn.push({ event: 'hello', data: branch });
  });
  app.use('/events/:branch', events);
  app.post('/orders/:branch', express.json(), async (req, res) => {
    const id = await events.broadcast({ event: 'order', data: req.body }, { to: req.params.branch as string });
    res.status(201).json({ id });
  });
  return { app, events };
}
