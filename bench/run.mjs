// Runs `npm run bench`: every scenario with every peer, interleaved over rounds, and then the report.
// Invariant: a figure is printed only for a run in which every client received every event.
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { readFlags, usage } from './flags.mjs';
import { journals } from './journals.mjs';
import { machine, versions } from './machine.mjs';
import { build, buildRevision, install } from './prepare.mjs';
import { endAll } from './processes.mjs';
import { save, table } from './report.mjs';

const scratch = fileURLToPath(new URL('.tmp', import.meta.url));

if (process.argv[2] === 'clients') {
  // The comparison of browser clients is a table of behaviours, not of figures.
  const { register } = await import('tsx/esm/api');
  register();
  install(['reconnecting-eventsource']);
  await import('./scenarios/clients/run.mjs');
}

if (process.argv[2] === 'runs') {
  // The comparison of runs has rows of its own, because its peers have no broadcast.
  install(['assistant-stream', 'resumable-stream']);
  build();
  await import('./scenarios/runs/run.mjs');
}

if (process.argv[2] === 'bloat') {
  // Its figures are the sizes of tables over time, of one peer.
  await mkdir(scratch, { recursive: true });
  build();
  await import('./scenarios/bloat.mjs');
}

const flags = readFlags(process.argv.slice(2));
if (flags.help) {
  console.log(usage);
  process.exit(0);
}

const ownPeers = ['net', 'http', 'express', 'ours'];

function peersOf(scenario) {
  const peers = namedPeers(scenario);
  return flags.before === undefined ? peers : peers.flatMap((peer) => (isOurs(peer) ? [peer, earlier(peer)] : [peer]));
}

function namedPeers(scenario) {
  if (flags.peers !== undefined) return scenario.peers.filter((peer) => flags.peers.includes(peer));
  if (!flags.smoke) return scenario.peers;
  // Only ours and its baseline, because every other process would only make the tests slower.
  return scenario.smokePeers ?? ownPeers.filter((peer) => peer === 'ours' || peer === scenario.baseline);
}

/** Measures one scenario. The peers alternate, so a slow minute of the machine affects all of them. */
async function measure(scenario) {
  const peers = peersOf(scenario);
  const size = { ...(flags.smoke ? scenario.smoke : scenario.size), ...flags.sizes };
  const samples = Object.fromEntries(peers.map((peer) => [peer, []]));
  const refused = {};
  if (scenario.together !== undefined) return { ...(await measureTogether(scenario, peers, size)), size };
  for (let round = 0; round < flags.rounds; round++) {
    for (const peer of rotated(peers, round)) {
      if (peer in refused) continue;
      progress(`${scenario.name}: round ${round + 1} of ${flags.rounds}, ${peer}`);
      try {
        samples[peer].push(await scenario.run({ ...subjectOf(peer), profile: profileOf(scenario, peer) }, size));
      } catch (error) {
        refused[peer] = error.message;
      }
    }
  }
  progress('');
  const { name, title, baseline, metrics } = scenario;
  return { name, title, baseline, metrics, size, rounds: flags.rounds, samples, refused };
}

/** Measures a scenario whose peers run in one process. If one peer has a fault, no peer has a figure. */
async function measureTogether({ name, title, baseline, metrics, together }, peers, size) {
  progress(`${name}: ${flags.rounds} rounds of ${peers.join(', ')}`);
  const profile = profileOf({ name }, 'all');
  const subjects = peers.map((peer) => ({ name: peer, ...subjectOf(peer), profile }));
  const result = { name, title, baseline, metrics, rounds: flags.rounds, refused: {} };
  try {
    return { ...result, samples: await together(subjects, size, flags.rounds) };
  } catch (error) {
    const refused = Object.fromEntries(peers.map((peer) => [peer, error.message]));
    return { ...result, refused, samples: Object.fromEntries(peers.map((peer) => [peer, []])) };
  } finally {
    progress('');
  }
}

/** Whether a row measures this package: with a journal, or with the history in memory. */
const isOurs = (peer) => peer === 'ours' || peer in journals;
const earlier = (peer) => (peer === 'ours' ? 'before' : `${peer}-before`);

function subjectOf(peer) {
  const name = [...Object.keys(journals), 'ours'].find((one) => one === peer || earlier(one) === peer);
  if (name === undefined) return { peer, options: {} };
  const options = {};
  if (name in journals) options.journal = journals[name];
  if (name !== peer) options.lib = '.tmp/before';
  return { peer: 'ours', options };
}

/** Returns the peers in the order of a round. Each round starts with the next peer, so that no peer is always the first. */
const rotated = (peers, by) => peers.map((_, i) => peers[(i + by) % peers.length]);

function profileOf(scenario, peer) {
  if (!flags.profile) return [];
  return [
    '--cpu-prof',
    `--cpu-prof-dir=${scratch}`,
    `--cpu-prof-name=${scenario.name}-${peer}-${Date.now()}.cpuprofile`,
  ];
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

const peers = [...new Set(flags.scenarios.flatMap(namedPeers))];
if (!flags.smoke) install(peers);
await mkdir(scratch, { recursive: true });
if (peers.some(isOurs)) build();
if (flags.before !== undefined) buildRevision(flags.before);

const results = {
  date: new Date().toISOString().slice(0, 10),
  machine: machine(),
  versions: await versions(peers),
  scenarios: [],
};
try {
  for (const scenario of flags.scenarios) {
    const result = await measure(scenario);
    results.scenarios.push(result);
    console.log(table(result));
  }
} finally {
  await endAll();
}
if (flags.out !== undefined) await save(results, flags.out, { plots: !flags.smoke });
if (results.scenarios.some(({ refused }) => Object.keys(refused).length > 0)) process.exitCode = 1;
