/*
 * curl on a router of runs: it starts an answer, others join and resume it by its place, and one stops it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { eventually } from '../fixtures/http.ts';
import { curlPath } from '../fixtures/programs.ts';
import { later } from '../fixtures/support.ts';
import { site } from '../runs/sites.ts';

interface Curl {
  readonly child: ChildProcess;
  /** Everything that curl has printed. */
  readonly text: string;
  /** Settles with the exit code. */
  readonly code: Promise<number | null>;
}

function curl(...args: string[]): Curl {
  const child = spawn(curlPath(), ['-s', '-S', '-N', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  later(() => child.kill('SIGKILL'));
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  }
  const code = once(child, 'close').then(([status]) => status as number | null);
  return {
    child,
    code,
    get text() {
      return text;
    },
  };
}

const POST = ['-H', 'Content-Type: application/json', '-d', '{"id":"r"}'];

test.each<[what: string, args: string[]]>([
  ['HTTP/1.1', []],
  ['HTTP/1.0', ['-0']],
  ['--compressed', ['--compressed']],
])('%s: starts, joins and resumes an answer, to its end', async (_what, args) => {
  const { url, models } = await site({ compress: true });
  const first = curl(...args, '-i', ...POST, `${url}/chat`);
  await eventually(() => models.calls.length === 1);
  models.last.emit('one', 'two');
  await eventually(() => first.text.includes('data: two\n\n'));
  const place = /^location: (.*)\r$/im.exec(first.text)![1]!;
  const joined = curl(...args, String(new URL(place, `${url}/chat`)));
  const id = /^id: (.*~1)$/m.exec(first.text)![1]!;
  const resumed = curl(...args, '-H', `Last-Event-ID: ${id}`, `${url}/chat/r`);
  await eventually(() => joined.text.includes('two') && resumed.text.includes('two'));
  models.last.emit('three');
  models.last.finish();
  expect(await Promise.all([first.code, joined.code, resumed.code])).toEqual([0, 0, 0]);
  const datas = (text: string): string[] => [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => data!);
  expect(datas(first.text)).toEqual(['one', 'two', 'three', 'done']);
  expect(datas(joined.text)).toEqual(['one', 'two', 'three', 'done']);
  expect(datas(resumed.text)).toEqual(['two', 'three', 'done']);
});

test('stops an answer, and shows its status', async () => {
  const { url, models } = await site();
  const first = curl(...POST, `${url}/chat`);
  await eventually(() => models.calls.length === 1);
  const stop = curl('-X', 'DELETE', '-o', '/dev/null', '-w', '%{http_code}', `${url}/chat/r`);
  expect([await stop.code, stop.text]).toEqual([0, '202']);
  expect(await first.code).toBe(0);
  expect(first.text).toContain('event: end\ndata: stopped\n\n');
  const status = curl(`${url}/chat/r/status`);
  await status.code;
  expect(JSON.parse(status.text)).toMatchObject({ id: 'r', status: 'stopped' });
});
