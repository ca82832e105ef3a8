// A process with a journal and no router: it measures the engine alone. It receives its commands over IPC.
// Invariant: read() returns a figure only if the log contains each appended event, once and in order.
import { answer } from './processes.mjs';
import { faultIn, frame, payload } from './events.mjs';
import { cpu, since } from './gauges.mjs';
import { openJournal } from './journals.mjs';
import { windowed } from './pace.mjs';

const [json, lib] = process.argv.slice(2);
const journal = await openJournal(JSON.parse(json), lib);
await journal.open();
const { floor, entries } = await journal.window(1);
const begin = entries.at(-1)?.id ?? floor;
const around = frame(payload(0, 100)).length - 100;

let seq = 0;

/** Each body is exactly `bytes` long, so that the report can compare it with the bytes that the engine stores. */
async function append({ count, bytes, window }) {
  const start = cpu();
  await windowed(count, window, () => journal.append({ body: frame(payload(++seq, bytes - around)) }));
  return since(start);
}

async function read({ page }) {
  const bodies = [];
  const start = cpu();
  for (let at = begin; ;) {
    const result = await journal.read(at, page);
    if (!result.ok) throw new Error(`the position ${at} is ${result.reason}`);
    if (result.entries.length === 0) break;
    for (const { body } of result.entries) bodies.push(body);
    at = result.entries.at(-1).id;
  }
  const cost = since(start);
  const fault = faultIn(bodies, seq);
  if (fault !== undefined) throw new Error(fault);
  return { ...cost, entries: bodies.length };
}

answer({ append, read });
