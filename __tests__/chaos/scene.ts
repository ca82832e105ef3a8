/*
 * How the scenarios begin and end: a fleet, a crowd, kills at intervals, and the comparison with the log.
 * Knows the rooms beside it and how to ask Redis.
 * Invariant: a scenario ends only when every client has had the last event of the log, or it fails.
 */
import type { Random } from '../fixtures/random.ts';
import { nodeRedis } from '../fixtures/redis-clients.ts';
import type { RedisServer } from '../fixtures/redis-server.ts';
import { Crowd } from './crowd.ts';
import type { Fleet } from './fleet.ts';
import { seed } from './settings.ts';
import type { Logged } from './server.ts';
import { type Judged, judge } from './verdict.ts';

export const CLIENTS = 300;

/** Everybody is there, and events flow. */
export async function gather(fleet: Fleet, random: Random, size = CLIENTS): Promise<Crowd> {
  const crowd = new Crowd(fleet, random, size);
  try {
    await crowd.arrive();
    if (!fleet.publishing) fleet.publish();
    await crowd.until('get a first event', ({ stretches }) => stretches[0]!.ids.length > 0);
    return crowd;
  } catch (error) {
    crowd.leave();
    throw error;
  }
}

/** Kills a server every 2.5 s, and does `also` every 8 s, for so long. Settles when all that was killed is back. */
export async function storm(seconds: number, fleet: Fleet, random: Random, also?: () => Promise<void>): Promise<void> {
  const work: Promise<void>[] = [];
  let busy = false;
  const once = async (): Promise<void> => {
    busy = true;
    await also?.().finally(() => (busy = false));
  };
  await new Promise<void>((resolve, reject) => {
    const run = (job: Promise<void>): void => void work.push(job.catch(reject));
    const kill = (): void => {
      const live = fleet.servers.filter((server) => server.live);
      if (live.length > 1) run(fleet.replace(random.of(live)!)); // else there would be nobody to watch
    };
    const timers = [
      setInterval(kill, 2500),
      setInterval(() => void (also && !busy && run(once())), Math.min(8000, (seconds * 1000) / 2)),
    ];
    setTimeout(() => {
      for (const timer of timers) clearInterval(timer);
      resolve();
    }, seconds * 1000);
  });
  await Promise.all(work);
}

/** Peace, one last event, and what everyone has had by then. */
export async function ending(
  name: string,
  fleet: Fleet,
  crowd: Crowd,
  logOf: () => Promise<readonly Logged[]>,
): Promise<Judged> {
  crowd.calm();
  await fleet.quiet();
  const id = await fleet.last();
  await crowd.until('get the last event', ({ stretches }) => stretches.at(-1)?.ids.at(-1) === id);
  const log = await logOf();
  const judged = judge(crowd.clients, log, fleet.acknowledged, crowd.seen);
  judged.verdict.faults.push(...crowd.faults.slice(0, 5), ...fleet.crashes);
  crowd.leave();
  const connects = crowd.clients.reduce((sum, client) => sum + client.connects, 0);
  process.stdout.write(
    `chaos, ${name}: seed ${seed}, ${log.length} entries, ${judged.deliveries} deliveries, ${connects} connections, ` +
      `${crowd.cuts} cuts, ${fleet.kills} kills of servers, ${judged.resets} resets, ${fleet.refused.length} refused publishes\n`,
  );
  return judged;
}

/** The stream, read with a client of the application's own. */
export async function streamOf({ url }: Pick<RedisServer, 'url'>, key = '{sse}:log'): Promise<Logged[]> {
  const app = await nodeRedis.make(url);
  try {
    const log: Logged[] = [];
    for (let from = '-'; ;) {
      const page = (await app.command('XRANGE', key, from, '+', 'COUNT', '10000')) as [string, string[]][];
      for (const [id, pairs] of page) {
        const fields = new Map(pairs.flatMap((name, i) => (i % 2 === 0 ? [[name, pairs[i + 1]!] as const] : [])));
        log.push([id, /^data: (.*)$/m.exec(fields.get('body') ?? '')?.[1] ?? '', fields.get('to') ?? null]);
      }
      if (page.length < 10_000) return log;
      from = `(${page.at(-1)![0]}`;
    }
  } finally {
    app.end();
  }
}
