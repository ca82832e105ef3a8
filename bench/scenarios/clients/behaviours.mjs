// The behaviours of the matrix. Each one answers with `yes`, or with what happened instead. `-` is for what a client does not offer.
import { setTimeout as pause } from 'node:timers/promises';

const HEADERLESS = ['EventSource', 'reconnecting-eventsource'];
const WITHOUT_POST = [...HEADERLESS, 'event-source-polyfill'];

/** Broadcasts numbers until it is stopped; returns how many there were. */
function broadcasting(feed) {
  let isRunning = true;
  const run = (async () => {
    for (let n = 0; isRunning; n++) {
      feed.broadcast(`${n}`);
      await pause(10);
    }
  })();
  return async () => {
    isRunning = false;
    await run;
    return feed.log.length;
  };
}

async function until(condition, ms) {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    if (await condition()) return true;
    await pause(20);
  }
  return false;
}

/** What is wrong with the list of a tab, compared with the numbers up to the last one. */
async function faultsOf(tab, last) {
  await until(async () => (await tab.seen()).at(-1)?.[1] === `${last}`, 4000);
  const numbers = (await tab.seen()).filter(([name]) => name === 'message').map(([, data]) => Number(data));
  const has = new Set(numbers);
  const first = numbers[0] ?? last;
  const lost = Array.from({ length: last - first + 1 }, (_, n) => first + n).filter((n) => !has.has(n)).length;
  const twice = numbers.length - has.size;
  if (numbers.length === 0) return 'nothing arrives';
  return [lost && `${lost} lost`, twice && `${twice} twice`].filter(Boolean).join(', ');
}

/** Three tabs; something happens to the first of them. The others must have everything once. */
const firstTab = (lose) => async (scene) => {
  const { feed, client, tab } = scene;
  const [first, ...others] = [await tab(), await tab(), await tab()];
  for (const one of [first, ...others]) await one.open(client, { shared: true });
  await until(() => feed.open.size > 0, 3000);
  await pause(300);
  const stop = broadcasting(feed);
  await pause(200);
  const connections = feed.open.size;
  await lose(first, scene);
  await pause(1200);
  const last = (await stop()) - 1;
  const faults = await Promise.all(others.map((one) => faultsOf(one, last)));
  return faults.find(Boolean) ?? `yes, ${connections} connection${connections > 1 ? 's' : ''}`;
};

/** One tab that follows; then something happens; it must have everything once. */
const oneTab =
  (disturb, how = {}) =>
  async (scene) => {
    const { feed, client, tab } = scene;
    const one = await tab();
    await one.open(client, how);
    if (!(await until(() => feed.open.size > 0, 3000))) return 'no connection';
    const stop = broadcasting(feed);
    await pause(100);
    const answer = await disturb(one, scene);
    const last = (await stop()) - 1;
    return (await faultsOf(one, last)) || (answer ?? 'yes');
  };

const unless = (clients, behaviour) => async (scene) => (clients.includes(scene.client) ? '-' : behaviour(scene));

export const behaviours = [
  [
    'seven tabs over HTTP/1.1, all live',
    async ({ feed, client, tab }) => {
      const tabs = [];
      for (let n = 0; n < 7; n++) tabs.push(await tab()); // a seventh page could not load beside six streams
      for (const one of tabs) await one.open(client, { shared: true });
      await pause(2000);
      feed.broadcast('x');
      await pause(1000);
      const live = (await Promise.all(tabs.map((one) => one.seen()))).filter((seen) => seen.length > 0).length;
      return live === 7 ? `yes, ${feed.open.size} connection${feed.open.size > 1 ? 's' : ''}` : `${live} of 7`;
    },
  ],
  ['the first of three tabs is closed', firstTab((first) => first.close())],
  ['… crashes', firstTab((first) => first.crash())],
  ['… is blocked by an alert', firstTab((first) => first.block())],
  ['… navigates away', firstTab((first, { feed }) => first.goto(`${feed.url}/elsewhere`))],
  [
    'a tab is frozen for a second: it has everything once',
    async (scene) => {
      const { feed, client, bareTab } = scene;
      const one = await bareTab();
      await one.open(client, {});
      if (!(await until(() => feed.open.size > 0, 3000))) return 'no connection';
      const stop = broadcasting(feed);
      await pause(100);
      await one.freeze(true);
      await pause(1000);
      await one.freeze(false);
      await pause(700);
      return (await faultsOf(one, (await stop()) - 1)) || 'yes';
    },
  ],
  [
    'a late tab gets what its server sends to new clients',
    async ({ feed, client, tab }) => {
      feed.script = (_req, res) => {
        feed.stream(res);
        res.write('data: hello\n\n');
        return true;
      };
      const [first, late] = [await tab(), await tab()];
      await first.open(client, { shared: true });
      await until(async () => (await first.seen()).length > 0, 3000);
      await late.open(client, { shared: true });
      return (await until(async () => (await late.seen())[0]?.[1] === 'hello', 2000)) ? 'yes' : 'nothing arrives';
    },
  ],
  [
    'offline for a second, then online',
    oneTab(async (_one, { feed, setOffline }) => {
      await setOffline(true);
      await feed.cut();
      await pause(1000);
      await setOffline(false);
      await until(() => feed.open.size > 0, 5000);
    }),
  ],
  [
    'a connection that breaks is resumed',
    oneTab(async (_one, { feed }) => {
      await feed.cut();
      await until(() => feed.open.size > 0, 5000);
    }),
  ],
  [
    'a server that ends the response is connected again',
    oneTab(async (_one, { feed }) => {
      for (const res of feed.open) res.end();
      await until(() => feed.open.size === 0, 1000);
      await until(() => feed.open.size > 0, 5000);
    }),
  ],
  [
    'a server that restarts within 2 s',
    oneTab(async (_one, { feed }) => {
      await feed.stop();
      await pause(2000);
      await feed.start();
      await until(() => feed.open.size > 0, 8000);
    }),
  ],
  [
    'a server that stalls without closing',
    oneTab(
      async (_one, { feed }) => {
        for (const res of feed.open) res.isStalled = true;
        const before = feed.requests.length;
        await until(() => feed.requests.length > before, 4000);
      },
      { silence: 1000 },
    ),
  ],
  [
    'a 503 with Retry-After: 1',
    oneTab(async (_one, { feed }) => {
      let refusedAt = 0;
      feed.script = (_req, res) => {
        if (refusedAt > 0) return false;
        refusedAt = performance.now();
        res.writeHead(503, { 'Retry-After': '1' }).end();
        return true;
      };
      await feed.cut();
      if (!(await until(() => feed.open.size > 0, 6000))) return undefined;
      const waited = feed.requests.at(-1).at - refusedAt;
      return waited >= 990 ? 'yes' : `after ${Math.round(waited)} ms`;
    }),
  ],
  [
    'a server that refuses for 5 s is spared: at most 6 requests',
    async ({ feed, client, tab }) => {
      feed.script = (_req, res) => {
        res.writeHead(503).end();
        return true;
      };
      await (await tab()).open(client, {});
      await pause(5000);
      const count = feed.requests.length;
      return count > 6 ? `${count} requests` : count === 1 ? 'gives up' : 'yes';
    },
  ],
  [
    'a header of its own',
    async ({ feed, client, tab }) => {
      await (await tab()).open(client, { token: true });
      await until(() => feed.requests.length > 0, 3000);
      return feed.requests[0]?.token ? 'yes' : 'no';
    },
  ],
  [
    'a header that changes with every connect',
    unless(HEADERLESS, async ({ feed, client, tab }) => {
      await (await tab()).open(client, { token: true });
      await until(() => feed.open.size > 0, 3000);
      await feed.cut();
      await until(() => feed.requests.length > 1, 4000);
      const [first, second] = feed.requests;
      return second === undefined ? 'no second request' : second.token === first.token ? 'the first one again' : 'yes';
    }),
  ],
  [
    'after a 401, a fresh token, and everything once',
    unless(
      HEADERLESS,
      oneTab(
        async (_one, { feed }) => {
          const used = new Set([feed.requests[0].token]);
          feed.script = (_req, res, { token }) => {
            if (!used.has(token)) return false;
            res.writeHead(401).end();
            return true;
          };
          // The token that the next connect sends has expired as well: its first attempt gets a 401.
          let isFirst = true;
          const { script } = feed;
          feed.script = (req, res, request) => {
            if (isFirst) used.add(request.token);
            isFirst = false;
            return script(req, res, request);
          };
          await feed.cut();
          await until(() => feed.open.size > 0, 5000);
        },
        { token: true },
      ),
    ),
  ],
  [
    'a 403 is final, after at most one more attempt with fresh headers',
    async ({ feed, client, tab }) => {
      feed.script = (_req, res) => {
        res.writeHead(403).end();
        return true;
      };
      await (await tab()).open(client, {});
      await pause(4000);
      return feed.requests.length <= 2 ? 'yes' : `${feed.requests.length} requests in 4 s`;
    },
  ],
  [
    'the end of a stream is final: an event, then 204',
    async ({ feed, client, tab }) => {
      feed.script = (_req, res, { id }) => {
        if (id === 'sse-router:end') res.writeHead(204).end();
        else {
          res.writeHead(200, { 'Content-Type': 'text/event-stream' });
          res.end('retry: 100\n\nid: sse-router:end\nevent: end\ndata\n\n');
        }
        return true;
      };
      const one = await tab();
      await one.open(client, {});
      await pause(4000);
      if (!(await one.seen()).some(([name]) => name === 'end')) return 'the event is not shown';
      return feed.requests.length <= 2 ? 'yes' : `${feed.requests.length} requests in 4 s`;
    },
  ],
  [
    'a reset event reaches every tab',
    async ({ feed, client, tab }) => {
      const tabs = [await tab(), await tab()];
      for (const one of tabs) await one.open(client, { shared: true });
      await pause(500);
      for (const res of feed.open) res.write('id: 9\nevent: reset\ndata: {"reason":"lost","lastEventId":"1"}\n\n');
      const all = await until(
        async () => (await Promise.all(tabs.map((one) => one.seen()))).every((seen) => seen.length === 1),
        1500,
      );
      return all ? 'yes' : 'no';
    },
  ],
  [
    'a POST that is complete is not repeated',
    unless(WITHOUT_POST, async ({ feed, client, tab }) => {
      feed.script = (_req, res) => {
        res.writeHead(200, { 'Content-Type': 'text/event-stream' });
        res.end('data: token\n\n');
        return true;
      };
      const one = await tab();
      await one.open(client, { method: 'POST', body: '{}' });
      await pause(3500);
      if ((await one.seen()).length === 0) return 'nothing arrives';
      return feed.requests.length === 1 ? 'yes' : `${feed.requests.length} POSTs in 3.5 s`;
    }),
  ],
  [
    'a POST that is cut off is not repeated',
    unless(WITHOUT_POST, async ({ feed, client, tab }) => {
      feed.script = (_req, res) => {
        res.writeHead(200, { 'Content-Type': 'text/event-stream' });
        res.write('data: token\n\n');
        setTimeout(() => res.socket.destroy(), 100);
        return true;
      };
      await (await tab()).open(client, { method: 'POST', body: '{}' });
      await pause(3500);
      return feed.requests.length === 1 ? 'yes' : `${feed.requests.length} POSTs in 3.5 s`;
    }),
  ],
  [
    'bytes: UTF-8 in pieces, a BOM, CR LF, and lines that end in CR',
    async ({ feed, client, tab }) => {
      const bytes = Buffer.from('\uFEFFdata: é…𠮷\r\n\r\ndata: a\rdata: b\r\r');
      feed.script = (_req, res) => {
        res.writeHead(200, { 'Content-Type': 'text/event-stream' });
        void (async () => {
          for (const byte of bytes) {
            res.write(new Uint8Array([byte]));
            await pause(5);
          }
          res.write('data: last\n\n');
        })();
        return true;
      };
      const one = await tab();
      await one.open(client, {});
      await pause(1500);
      const data = (await one.seen()).map(([, text]) => text);
      return JSON.stringify(data) === JSON.stringify(['é…𠮷', 'a\nb', 'last'])
        ? 'yes'
        : JSON.stringify(data).slice(0, 40);
    },
  ],
  [
    'an id beyond Latin-1 comes back',
    async ({ feed, client, tab }) => {
      feed.script = (_req, res) => {
        res.writeHead(200, { 'Content-Type': 'text/event-stream' });
        res.write('retry: 100\n\nid: é…𠮷\ndata: x\n\n');
        setTimeout(() => res.socket.destroy(), 100);
        return true;
      };
      await (await tab()).open(client, {});
      if (!(await until(() => feed.requests.length > 1, 4000))) return 'no second request';
      return feed.requests[1].id === 'é…𠮷' ? 'yes' : String(feed.requests[1].id);
    },
  ],
  [
    'blocks without data are no messages',
    async ({ feed, client, tab }) => {
      feed.script = (_req, res) => {
        res.writeHead(200, { 'Content-Type': 'text/event-stream' });
        res.write(':\n\nretry: 5000\n\nid: 1\n\nevent: x\n\ndata: real\n\n');
        return true;
      };
      const one = await tab();
      await one.open(client, {});
      await pause(800);
      const data = (await one.seen()).map(([, text]) => text);
      return data.length === 1 && data[0] === 'real' ? 'yes' : `${data.length} messages`;
    },
  ],
];

/** What is not run but read: whether the types of a client name the events and their data. */
export const typed = ['sse-router/client'];
