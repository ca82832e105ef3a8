/*
 * The classic mistakes of resume, as replacements of text in lib/: each must turn a test red.
 * Knows the lines that it replaces; a line that has changed is an error, so that no mistake is forgotten.
 * (Not here, because it does no harm: a scan that begins with the wrong one of those who wait. The others have the next pass.)
 */

const MODEL = 'model.test.ts';
const RESUME = 'resume.test.ts';
const RING = 'ring.test.ts';

/** @type {readonly { name: string, file: string, from: string, to: string, test?: string, part?: string }[]} */
export const mutants = [
  {
    name: 'no check of the cursor: every position is taken to be in the log',
    file: 'memory-journal.ts',
    from: "return n >= this.#first || n === this.#head || (n === 0 && this.#first === 1) ? undefined : 'lost';",
    to: 'return undefined;',
    test: RESUME,
    part: 'cannot be resumed is told',
  },
  {
    name: 'an id of another life of the log is taken for one of this',
    file: 'position.ts',
    from: 'isPosition(id) && id.startsWith(name)',
    to: 'isPosition(id)',
    test: RESUME,
    part: 'cannot be resumed is told',
  },
  {
    name: 'ids compared as strings, by the log',
    file: 'position.ts',
    from: 'const difference = numberOf(a) - numberOf(b);',
    to: 'const difference = a < b ? -1 : Number(a > b);',
    test: RING,
  },
  {
    name: 'ids compared as strings, by the ring',
    file: 'ring.ts',
    from: 'const order = this.#compare(this.idAt(middle) as string, id);',
    to: 'const there = this.idAt(middle) as string;\n      const order = there < id ? -1 : Number(there > id);',
  },
  {
    name: 'joining live without draining the ring',
    file: 'reader.ts',
    from: 'if (this.held) this.verified();\n    else this.pump();',
    to: "if (this.held) this.verified();\n    else this.phase = 'live';",
  },
  {
    name: 'joining live at the end of the scan without draining the ring',
    file: 'catch-up.ts',
    from: 'reader.proceed(n, 0)',
    to: 'reader.proceed(ring.head, 0)',
  },
  {
    name: 'a reset that is still to be written is overtaken by the scan',
    file: 'reader.ts',
    from: 'if (!this.held) this.#sayFirst();',
    to: '',
  },
  {
    name: 'a ring overrun ignored',
    file: 'cursor.ts',
    from: 'let from = this.position;',
    to: 'let from = Math.max(this.position, ring.first - 1);',
  },
  {
    name: 'a ring overrun ignored, over real sockets',
    file: 'cursor.ts',
    from: 'let from = this.position;',
    to: 'let from = Math.max(this.position, ring.first - 1);',
    test: RESUME,
    part: 'cannot be resumed is told',
  },
  {
    name: 'an id ahead of this process joined at its head',
    file: 'reader.ts',
    from: 'catchUp.ahead(this)',
    to: 'this.proceed(ring.head)',
  },
  {
    name: 'an unverified id: one ahead is waited for whether it exists or not',
    file: 'catch-up.ts',
    from: "if (result === undefined || reader.phase !== 'ahead' || reader.at !== id) return;\n    if (!result.ok) {",
    to: "if (result === undefined || reader.phase !== 'ahead' || reader.at !== id) return;\n    if (id === '') {",
  },
  {
    name: 'a silent unknown id: the scan goes on at the head',
    file: 'catch-up.ts',
    from: 'for (const reader of those) safely(reader, () => reader.reset(result.reason));',
    to: 'for (const reader of those) safely(reader, () => reader.proceed(ring.head));',
  },
  {
    name: 'a cursor off by one: the next entry is skipped',
    file: 'reader.ts',
    from: 'this.cursor = n;\n    this.told = told;',
    to: 'this.cursor = Math.min(n + 1, this.hub.ring.head);\n    this.told = told;',
  },
  {
    name: 'a cursor off by one: the last entry comes again',
    file: 'reader.ts',
    from: 'this.cursor = n;\n    this.told = told;',
    to: 'this.cursor = Math.max(n - 1, this.hub.ring.first - 1);\n    this.told = told;',
  },
  {
    name: 'attaching early in the scan',
    file: 'catch-up.ts',
    from: 'if (first) this.#attach(at);',
    to: 'if (first) for (const id of [...this.#waiting.keys()]) this.#attach(id);',
  },
  {
    name: 'parked with the wrong cursor',
    file: 'cursor.ts',
    from: 'this.at = id;\n    if (packet === undefined',
    to: 'if (packet === undefined',
  },
  {
    name: 'no first cursor',
    file: 'reader.ts',
    from: 'this.#release((words) => withPosition(words, this.at));',
    to: 'this.#release((words) => words);',
  },
  {
    name: 'the position taken at the opening, not at the admission',
    file: 'reader.ts',
    from: "this.words?.hoist(); // what was pushed before the opening comes before everything else\n    this.phase = 'ring';",
    to: "this.words?.hoist();\n    this.phase = 'ring';\n    this.cursor = this.hub.ring.head;\n    this.at = this.hub.ring.headId;",
  },
  {
    name: 'phantoms unannounced',
    file: 'reader.ts',
    from: "return this.reset('diverged', seen.at(-1)!.id);",
    to: 'return this.pump();',
  },
  {
    name: 'the id of a phantom left with a client',
    file: 'reader.ts',
    from: 'sayFirst(checkpoint(this.at));',
    to: "sayFirst(':\\n');",
  },
  {
    name: 'the ring not cut back when the log is',
    file: 'ring.ts',
    from: 'while (this.head > n) this.#bytes',
    to: 'while (this.head > n + 1) this.#bytes',
  },
  {
    name: 'packets kept although their numbers have changed their meaning',
    file: 'hub.ts',
    from: 'this.ring.truncate(n);\n    this.range.forget();',
    to: 'this.ring.truncate(n);',
  },
  {
    name: 'who joined late and was carried past a cut goes on',
    file: 'reader.ts',
    from: "if (!this.shares && journal.compare(this.at, common) > 0) return this.reset('diverged');",
    to: '',
  },
  {
    name: 'who is over, and has not had its last word, is not told of lost writes',
    file: 'registry.ts',
    from: 'yield* this.#leaving.keys();',
    to: '',
  },
  {
    name: 'nobody told of a restart',
    file: 'hub.ts',
    from: 'for (const stream of streams) stream.restarted(reason);',
    to: 'for (const stream of streams) stream.pump();',
  },
  {
    name: 'after a restart who stood at the old head seems to stand at the new floor',
    file: 'ring.ts',
    from: 'this.#first = this.head + 2;',
    to: 'this.#first = this.head + 1;',
  },
  {
    name: 'checkpoint missing for who heard nothing for long',
    file: 'reader.ts',
    from: '&& this.told < ring.head;',
    to: "&& ring.headId === '';",
  },
  {
    name: 'a late join without limit: it gets the past',
    file: 'cursor.ts',
    from: 'for (const channel of channels) this.#late.set(channel, this.hub.ring.headId);',
    to: 'if (channels.length === 0) this.#late.clear();',
  },
  {
    name: 'blocked ignored by the pump',
    file: 'cursor.ts',
    from: 'if (!more && this.outlet.waiting > 0) this.block();',
    to: 'if (!more && this.outlet.waiting < 0) this.block();',
  },
  {
    name: 'blocked ignored by the hand-out',
    file: 'cursor.ts',
    from: 'if (this.outlet.waiting === 0) return;\n    this.phase',
    to: 'if (this.outlet.waiting >= 0) return;\n    this.phase',
  },
  {
    name: 'a socket that said no is not looked at again',
    file: 'volley.ts',
    from: 'if (!(socket.writable && socket.write(chunk))) readers[i]!.refused();',
    to: 'if (socket.writable) socket.write(chunk);',
  },
  {
    name: 'who has words of its own is written to with the rest',
    file: 'cursor.ts',
    from: "this.phase === 'live' && this.words === undefined && this.cursor <= from;",
    to: "this.phase === 'live' && this.cursor <= from;",
    test: 'wire.test.ts',
    part: '100,000 lines arrive whole',
  },
  {
    name: 'who is ahead of the hand-out is written to with the rest',
    file: 'cursor.ts',
    from: "this.phase === 'live' && this.words === undefined && this.cursor <= from;",
    to: "this.phase === 'live' && this.words === undefined;",
  },
  {
    name: 'blocked ignored by the scan',
    file: 'cursor.ts',
    from: 'if (packet === undefined || this.#send(packet) || this.outlet.waiting === 0) return;',
    to: 'if (packet === undefined || this.#send(packet) || this.outlet.waiting >= 0) return;',
  },
  {
    name: 'a lost wake-up: the drained are not gone on with',
    file: 'cursor.ts',
    from: 'else this.pump();\n      if (!this.blocked) this.onDrained();',
    to: 'if (!this.blocked) this.onDrained();',
  },
  {
    name: 'what is pushed overtakes what was broadcast before',
    file: 'words.ts',
    from: 'this.#at = at;\n    this.#text += text;',
    to: 'this.#at = 0;\n    this.#text += text;',
  },
  {
    name: 'a snapshot of before is told as that of now',
    file: 'reader.ts',
    from: 'asked === this.#asked &&',
    to: '',
  },
  {
    name: 'the ring lets go of what has not been handed out',
    file: 'ring.ts',
    from: 'this.#first <= n &&',
    to: 'this.#first <= this.head &&',
    test: RING,
  },
  {
    name: 'bytes of the ring not given back',
    file: 'ring.ts',
    from: 'this.#bytes -= oldest.body.byteLength;',
    to: '',
    test: RING,
  },
  {
    name: 'the ring vouches for what the log has let go',
    file: 'ring.ts',
    from: 'return n !== undefined && n <= this.#lost && n !== this.head ? undefined : n;',
    to: 'return n;',
    test: RING,
  },
  {
    name: 'who is behind at its end is not waited for',
    file: 'life.ts',
    from: "this.phase === 'ring' && this.cursor < this.limit;",
    to: "this.phase === 'ahead';",
    test: 'close-end.test.ts',
    part: 'who is behind at its end',
  },
  {
    name: 'who lingers is sent what came after its end',
    file: 'cursor.ts',
    from: 'const head = this.limit === -1 ? ring.head : this.limit;',
    to: 'const { head } = ring;',
    test: 'close-end.test.ts',
    part: 'who is behind at its end',
  },
];

export const DEFAULT_TEST = MODEL;
