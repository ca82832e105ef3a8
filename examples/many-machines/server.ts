/*
 * One of many servers, on whatever machine: all that they share is the log in Redis.
 */
import { createClient } from 'redis';
import { serve } from '../notes-page.ts';
// #region readme
import { sse } from '../../lib/index.ts';
import { redisJournal } from '../../lib/journal/redis/index.ts';

const client = createClient({ url: process.env.REDIS_URL });
const events = sse({ history: redisJournal(client), retry: 500 });
// #endregion

process.send?.(await serve(events, 0));
