// Writes the samples as a table in the terminal, RESULTS.md, results.json and plots.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canPlot } from './prepare.mjs';
import { ratio, spread } from './statistics.mjs';

/** Returns one scenario as a Markdown table, which is also readable in a terminal. */
export function table({ title, baseline, metrics, size, rounds, samples, refused }) {
  const keys = Object.keys(metrics);
  const compared = baseline !== undefined && samples[baseline]?.length > 0;
  const header = ['', ...keys.map((key) => metrics[key]), ...(compared ? [`times ${baseline}`] : [])];
  const rows = Object.entries(samples).map(([peer, taken]) => {
    if (peer in refused)
      return [peer, `refused: ${firstLine(refused[peer])}`, ...keys.slice(1).map(() => ''), ...(compared ? [''] : [])];
    const cells = keys.map((key) => figures(spread(taken, key)));
    if (compared) cells.push(figures(ratio(taken, samples[baseline], keys[0])));
    return [peer, ...cells];
  });
  const sizes = Object.entries(size).map(([key, value]) => `${key} ${value}`);
  const notes = new Set(Object.values(samples).flatMap((taken) => taken.flatMap(({ notes }) => notes ?? [])));
  const below = [`${sizes.join(', ')}; ${rounds} rounds: median [min – max]`, ...notes].join('\n\n');
  return `\n## ${title}\n\n${aligned([header, ...rows])}\n\n${below}\n`;
}

function figures(value) {
  if (value === undefined) return '–';
  const { median, min, max } = value;
  return min === max ? figure(median) : `${figure(median)} [${figure(min)} – ${figure(max)}]`;
}

function figure(value) {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
}

const firstLine = (text) => text.split('\n')[0];

function aligned([header, ...rows]) {
  const widths = header.map((_, i) => Math.max(3, ...[header, ...rows].map((row) => row[i].length)));
  const line = (row) =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`;
  const rule = widths.map((width, i) => (i === 0 ? '-'.repeat(width) : '-'.repeat(width - 1) + ':'));
  return [line(header), `| ${rule.join(' | ')} |`, ...rows.map(line)].join('\n');
}

/** Writes the data. Scenarios that this run did not measure stay, with the date and the versions of their own run. */
export async function save(results, folder, { plots }) {
  await mkdir(folder, { recursive: true });
  const file = join(folder, 'results.json');
  const stamp = { date: results.date, machine: results.machine, versions: results.versions };
  const scenarios = new Map((await earlier(file)).map((scenario) => [scenario.name, scenario]));
  for (const scenario of results.scenarios) scenarios.set(scenario.name, { ...scenario, ...stamp });
  const all = [...scenarios.values()];
  await writeFile(file, JSON.stringify({ scenarios: all }, null, 2) + '\n');
  await writeFile(join(folder, 'RESULTS.md'), page(all));
  if (plots && canPlot()) {
    const { draw } = await import('./plots.mjs');
    await draw(all, join(folder, 'plots'));
  }
}

async function earlier(file) {
  try {
    return JSON.parse(await readFile(file, 'utf8')).scenarios;
  } catch (error) {
    if (error.code === 'ENOENT') return [];
    throw error;
  }
}

function page(scenarios) {
  const parts = ['# Results', '', intro];
  let last = '';
  for (const scenario of scenarios) {
    const stamp = measuredOn(scenario);
    if (stamp !== last) parts.push('', stamp);
    last = stamp;
    parts.push(table(scenario).trimEnd());
  }
  return parts.join('\n') + '\n';
}

const intro = `\`npm run bench\` writes this page; the data is in \`bench/results.json\` of the repository.

Server and clients are separate processes. Redis and Postgres run on the clients' core. CPU is that of the server, user and system, as the
kernel counts it. The implementations take turns within each round. A figure appears only if every client received every event,
once and in order.

\`net\`, \`http\` and \`express\` are minimal servers without a library. \`joined\` is \`net\` with one write for all events of a
tick, and without ids: the lower bound of a burst. \`socket\` answers through Express and then writes to the sockets as \`net\`
does: the lower bound of a fan-out behind Express. In \`private\`, \`socket\` writes a chunk that is made in advance, and \`express\` is
\`map.get(user).write(frame)\`; all rows run in one process, and their blocks alternate. A socket that node:http has served costs more to write to than a socket of
\`net\`, and the difference grows with the number of sockets.`;

function measuredOn({ date, machine, versions }) {
  const pins = machine.pinned ? 'server and clients pinned to a core each' : 'not pinned';
  const names = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `Measured ${date} on ${machine.cpu}, ${machine.cores} cores, ${machine.memory}, ${machine.platform}, ${pins}; ${names.join(', ')}.`;
}
