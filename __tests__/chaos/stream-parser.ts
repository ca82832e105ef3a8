/*
 * Parses chunked HTTP and the grammar of event streams, independently of the package, whose bytes it checks.
 * It returns complete events only.
 */
export interface ParsedEvent {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: string;
}

export class StreamParser {
  #raw = '';
  #body = '';
  #left = -1; // within the head: -1; within a chunk: its remaining bytes and line end
  comments = 0;
  /** The status line of the answer, when it has arrived. */
  status = '';
  /** The position of the server at the admission: its header `X-Position`. */
  position = '';

  /** Reads text, which is ASCII in these tests. Returns the events that are complete now. */
  feed(text: string): ParsedEvent[] {
    this.#raw += text;
    if (this.status === '') {
      const end = this.#raw.indexOf('\r\n\r\n');
      if (end < 0) return [];
      this.status = this.#raw.slice(0, this.#raw.indexOf('\r\n'));
      this.position = /^X-Position: (.*)$/im.exec(this.#raw.slice(0, end))?.[1]?.trim() ?? '';
      this.#raw = this.#raw.slice(end + 4);
      this.#left = 0;
    }
    this.#dechunk();
    return this.#events();
  }

  #dechunk(): void {
    for (;;) {
      if (this.#left === 0) {
        const end = this.#raw.indexOf('\r\n');
        if (end < 0) return;
        const size = parseInt(this.#raw.slice(0, end), 16);
        this.#raw = this.#raw.slice(end + 2);
        if (!(size > 0)) return; // the end of the stream
        this.#left = size + 2;
      }
      if (this.#raw.length < this.#left) return;
      this.#body += this.#raw.slice(0, this.#left - 2);
      this.#raw = this.#raw.slice(this.#left);
      this.#left = 0;
    }
  }

  #events(): ParsedEvent[] {
    const blocks = this.#body.split('\n\n');
    this.#body = blocks.pop()!;
    if (blocks.length === 0 && this.#body.endsWith(':\n')) {
      this.comments++; // a heartbeat: no blank line follows
      this.#body = '';
    }
    return blocks.map((block) => {
      let event = 'message';
      let id: string | undefined;
      let data = '';
      for (const line of block.split('\n')) {
        if (line.startsWith(':')) this.comments++;
        else if (line.startsWith('id: ')) id = line.slice(4);
        else if (line.startsWith('event: ')) event = line.slice(7);
        else if (line.startsWith('data: ')) data += line.slice(6);
        else if (!line.startsWith('retry: ')) throw new Error(`Not a line of an event stream: ${JSON.stringify(line)}`);
      }
      return { event, id, data };
    });
  }
}
