/*
 * The parts of a scenario: connected clients, kills at intervals, and the comparison with the log at the end.
 * A scenario ends when every client has received the last event of the log, or it fails.
 */
import type { Random } from '../fixtures/random.ts';
import { nodeRedis } from '../fixtures/redis-clients.ts';
import type { RedisServer } from '../fixtures/redis-server.ts';
import { Clients } from './clients.ts';
import type { Fleet } from './fleet.ts';
import { clientCount, seed } from './settings.ts';
import { dataOf, type Logged } from './logged.ts';
import { type Comparison, compareWithLog } from './comparison.ts';

/** Connects the clients and starts the broadcasts. Settles when each client has received an event. */
export async function connectClients(fleet: Fleet, random: Random, size = clientCount): Promise<Clients> {
  const clients = new Clients(fleet, random, size);
  try {
    await clients.connect();
    if (!fleet.publishing) fleet.publish();
    await clients.until('get a first event', ({ stretches }) => stretches[0]!.ids.length > 0);
    return clients;
  } catch (error) {
    clients.disconnect();
    throw error;
  }
}

/** Disconnects a random room every second. Returns a function that stops this. */
export function startDisconnecting(fleet: Fleet, random: Random): () => void {
  const timer = setInterval(() => {
    const live = fleet.servers.filter((server) => server.live);
    random.of(live)?.send({ disconnect: `room${random.below(3)}` });
  }, 1000);
  return () => clearInterval(timer);
}

/**
 * Kills a server every 2.5 s, disconnects a room every second, and calls `also` every 8 s, for this time. Settles when every
 * killed process runs again.
 */
export async function killServers(
  seconds: number,
  fleet: Fleet,
  random: Random,
  also?: () => Promise<void>,
): Promise<void> {
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
      if (live.length > 1) run(fleet.replace(random.of(live)!)); // otherwise no server would be left
    };
    const stopDisconnecting = startDisconnecting(fleet, random);
    const timers = [
      setInterval(kill, 2500),
      setInterval(() => void (also && !busy && run(once())), Math.min(8000, (seconds * 1000) / 2)),
    ];
    setTimeout(() => {
      for (const timer of timers) clearInterval(timer);
      stopDisconnecting();
      resolve();
    }, seconds * 1000);
  });
  await Promise.all(work);
}

/** Stops the faults, broadcasts one last event, and compares what each client has received with the log. */
export async function finishScenario(
  name: string,
  fleet: Fleet,
  clients: Clients,
  logOf: () => Promise<readonly Logged[]>,
): Promise<Comparison> {
  clients.stopCutting();
  await fleet.stopPublishing();
  const id = await fleet.broadcastLast();
  await clients.until('get the last event', ({ stretches }) => stretches.at(-1)?.ids.at(-1) === id);
  const log = await logOf();
  const judged = compareWithLog(clients.all, log, fleet.acknowledged, clients.seen);
  judged.faults.details.push(...clients.faults.slice(0, 5), ...fleet.crashes);
  clients.disconnect();
  const connects = clients.all.reduce((sum, client) => sum + client.connects, 0);
  process.stdout.write(
    `chaos, ${name}: seed ${seed}, ${log.length} entries, ${judged.deliveries} deliveries, ${connects} connections, ` +
      `${clients.cuts} cuts, ${fleet.kills} kills of servers, ${fleet.disconnects} disconnects, ` +
      `${judged.resets} resets, ${fleet.refused.length} refused publishes\n`,
  );
  return judged;
}

/** Reads the log from Redis, without the journal. */
export async function streamOf({ url }: Pick<RedisServer, 'url'>, key = '{sse}:log'): Promise<Logged[]> {
  const app = await nodeRedis.make(url);
  try {
    const log: Logged[] = [];
    for (let from = '-'; ;) {
      const page = (await app.command('XRANGE', key, from, '+', 'COUNT', '10000')) as [string, string[]][];
      for (const [id, pairs] of page) {
        const fields = new Map(pairs.flatMap((name, i) => (i % 2 === 0 ? [[name, pairs[i + 1]!] as const] : [])));
        log.push([id, dataOf(fields.get('body') ?? ''), fields.get('to') ?? null]);
      }
      if (page.length < 10_000) return log;
      from = `(${page.at(-1)![0]}`;
    }
  } finally {
    app.end();
  }
}
