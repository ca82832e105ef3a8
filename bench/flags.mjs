// The command line of `npm run bench`.
import { parseArgs } from 'node:util';
import { journals } from './journals.mjs';
import { scenarios } from './scenarios/index.mjs';

export const usage = `npm run bench -- [flags]
npm run bench -- clients [words of a behaviour]     compares the browser client with others, in Chromium
npm run bench -- runs                               compares runs with other packages for answers that are resumed
npm run bench -- bloat [--events n] [--rate n]      sizes of the tables in Postgres, while a million events pass through them

  --scenario a,b      ${scenarios.map(({ name }) => name).join(', ')} (default: all)
  --peers a,b         ours, net, joined, socket, http, express, better-sse, express-sse, sse-channel; of machines ${Object.keys(journals).join(', ')}
                      (default: the peers of the scenario)
  --rounds n          interleaved rounds of every peer (default 5)
  --set key=value     a size of the scenario, e.g. --set connections=200 (repeatable)
  --smoke             every scenario with a few connections, without the other packages; takes seconds
  --before x          also measure ours at git revision x, or as compiled in folder x
  --cpu-prof          keep a CPU profile of each server process in bench/.tmp/
  --out folder        write results.json, RESULTS.md and the plots there (default: bench/ for a full run; otherwise nothing is written)
  --help
`;

export function readFlags(argv) {
  const { values } = parseArgs({
    args: argv,
    options: {
      scenario: { type: 'string' },
      peers: { type: 'string' },
      rounds: { type: 'string' },
      set: { type: 'string', multiple: true, default: [] },
      smoke: { type: 'boolean', default: false },
      'cpu-prof': { type: 'boolean', default: false },
      before: { type: 'string' },
      out: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const wanted = list(values.scenario);
  for (const name of wanted ?? []) {
    if (!scenarios.some((scenario) => scenario.name === name))
      throw new Error(`--scenario must be the name of a scenario; received ${name}.\n\n${usage}`);
  }
  const full = wanted === undefined && values.peers === undefined && values.set.length === 0;
  return {
    help: values.help,
    smoke: values.smoke,
    profile: values['cpu-prof'],
    before: values.before,
    scenarios: scenarios.filter(({ name }) => wanted === undefined || wanted.includes(name)),
    peers: list(values.peers),
    rounds: values.rounds === undefined ? (values.smoke ? 1 : 5) : positive('--rounds', values.rounds),
    sizes: Object.fromEntries(values.set.map(size)),
    out: values.out ?? (full && !values.smoke ? new URL('.', import.meta.url).pathname : undefined),
  };
}

function size(text) {
  const [key, value = ''] = text.split('=');
  return [key, positive(`--set ${key}`, value)];
}

function positive(flag, text) {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`${flag} must be a positive integer; received ${JSON.stringify(text)}.`);
  return number;
}

const list = (text) => text?.split(',').map((name) => name.trim());
