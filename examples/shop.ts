/*
 * The application that shop.test.ts tests: each branch of a shop reads its own orders.
 */
import express from 'express';
import { sse } from '../lib/index.ts';

const BRANCHES = ['bergen', 'oslo'];

/** Makes a new application for each test, so that tests do not share state. */
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
