import type { RunInfo, Wire } from '../../lib/runs/api.ts';
import { encodeChunk, frameOf } from '../../lib/runs/chunk-codec.ts';
import { infoOf } from '../../lib/runs/run-state.ts';
import { encodeEnd, events, openai, uiMessages } from '../../lib/runs/wires.ts';

const STATUSES = ['done', 'stopped', 'failed', 'lost'] as const;
const frame = <C>(wire: Wire<C>, chunk: C): string => Buffer.from(frameOf(encodeChunk(wire, chunk))).toString();
const ends = (wire: Wire<unknown>) => STATUSES.map((status) => encodeEnd(wire, info(status)));
const info = (status: RunInfo['status']): RunInfo => ({
  id: 'a',
  status,
  startedAt: 1,
  endedAt: 2,
  chunks: 0,
  bytes: 0,
});

describe('events()', () => {
  test('sends a chunk as data, and a message as it is', () => {
    const wire = events();
    expect(frame(wire, { delta: 'x' })).toBe('data: {"delta":"x"}\n\n');
    expect(frame(wire, { event: 'token', data: 'x' })).toBe('event: token\ndata: x\n\n');
    expect(frame(wire, { data: 'x', more: 1 })).toBe('data: {"data":"x","more":1}\n\n');
    expect(frame(wire, { id: 7 })).toBe('data: {"id":7}\n\n');
    expect(frame(wire, [])).toBe('data: []\n\n');
    expect(frame(wire, {})).toBe('data: {}\n\n');
  });

  test('ends with the status, and has ids and events of the router', () => {
    expect(ends(events())).toEqual(STATUSES.map((status) => `event: end\ndata: ${status}\n\n`));
    expect([events().control, events().headers]).toEqual([true, undefined]);
  });
});

describe('uiMessages()', () => {
  test('sends JSON without a name, and a string as JSON, too', () => {
    expect(frame(uiMessages(), { type: 'text-delta', id: 't', delta: 'x\n' })).toBe(
      'data: {"type":"text-delta","id":"t","delta":"x\\n"}\n\n',
    );
    expect(frame(uiMessages(), { event: 'x', data: 1 })).toBe('data: {"event":"x","data":1}\n\n');
    expect(frame(uiMessages(), 'x')).toBe('data: "x"\n\n');
  });

  test('gives a start chunk without a messageId a random one, which is stored', () => {
    const wire = uiMessages();
    const stored = encodeChunk(wire, { type: 'start' });
    const sent = Buffer.from(frameOf(stored)).toString();
    expect(sent).toMatch(/^data: \{"type":"start","messageId":"[0-9a-f-]{36}"\}\n\n$/);
    expect(Buffer.from(frameOf(stored)).toString()).toBe(sent);
    expect(frame(wire, { type: 'start' })).not.toBe(sent);
    expect(frame(wire, { type: 'start', messageId: 'm' })).toBe('data: {"type":"start","messageId":"m"}\n\n');
  });

  test('ends with [DONE], after an error or an abort if the run is not done', () => {
    const error = 'data: {"type":"error","errorText":"The answer could not be completed."}\n\n';
    expect(ends(uiMessages())).toEqual([
      'data: [DONE]\n\n',
      'data: {"type":"abort"}\n\ndata: [DONE]\n\n',
      `${error}data: [DONE]\n\n`,
      `${error}data: [DONE]\n\n`,
    ]);
    expect([uiMessages().control, uiMessages().headers]).toEqual([false, { 'x-vercel-ai-ui-message-stream': 'v1' }]);
  });
});

describe('openai()', () => {
  test('sends JSON without a name, and ends with [DONE], or with an error and no [DONE]', () => {
    expect(frame(openai(), { object: 'chat.completion.chunk' })).toBe('data: {"object":"chat.completion.chunk"}\n\n');
    const error = 'data: {"error":{"message":"The answer could not be completed.","type":"server_error"}}\n\n';
    expect(ends(openai())).toEqual(['data: [DONE]\n\n', 'data: [DONE]\n\n', error, error]);
    expect(openai().control).toBe(false);
  });
});

test('a wire without an end, or whose end is nothing, sends none', () => {
  const wire: Wire<unknown> = { control: true, message: String };
  expect(ends(wire)).toEqual(['', '', '', '']);
  expect(ends({ ...wire, end: () => undefined })).toEqual(['', '', '', '']);
});

test('the application receives neither the generation nor the lease of a run', () => {
  const state = {
    id: 'a',
    generation: 'g',
    status: 'running',
    startedAt: 1,
    chunks: 2,
    bytes: 3,
    leaseLeft: 4,
  } as const;
  expect(infoOf(state)).toEqual({ id: 'a', status: 'running', startedAt: 1, chunks: 2, bytes: 3 });
  expect(infoOf({ ...state, status: 'done', endedAt: 5 })).toEqual({
    ...info('done'),
    startedAt: 1,
    endedAt: 5,
    chunks: 2,
    bytes: 3,
  });
});
