/*
 * One of several servers, on any machine. The servers share nothing but the log in Redis.
 */
import { serve } from '../notes-page.ts';
// #region readme
import { createClient } from 'redis';
import { sse } from '../../lib/index.ts';
import { redisJournal } from '../../lib/journal/redis/index.ts';

const client = createClient({ url: process.env.REDIS_URL });
const events = sse({ history: redisJournal(client), retry: 500 });
// #endregion readme

process.send?.(await serve(events, 0));
