/*
 * The shared stream, in the worker or in the leading tab: it feeds the tabs that have joined, its members.
 * A line is one HTTP stream with its own numbers. There is one line, and a second one for a late tab that its log does not
 * reach, until the older tabs can move to the second. There are never more than two.
 * A member gets its replay, then the status, then what follows, in messages that arrive in order.
 */

import type { Place, Status } from './event-stream.ts';
import { type FrameLog, makeLog } from './frame-log.ts';
import { openHttp, type HttpSettings, type HttpSource } from './http-source.ts';
import type { HostMethods, Send } from './messages.ts';
import type { RequestHeaders } from './source.ts';

interface Line {
  readonly term: number;
  /** The line that this one continues, up to the number `base`. */
  readonly was: number | undefined;
  readonly base: number;
  log: FrameLog;
  status: Status;
  /** The position of the first frame: the server sends it with what it sends to every new stream. */
  opening?: string;
  source?: HttpSource;
}

interface Member {
  readonly place: Place;
  /** What the tab expects in the next answer: its ticket or, later, the line that it follows. */
  key: unknown;
  /** None while the tab waits for one of two lines to close. */
  line?: Line;
}

export interface Host<Tab> extends HostMethods<Tab> {
  readonly members: ReadonlyMap<Tab, Member>;
}

export type HostSettings = Omit<HttpSettings, 'from' | 'headers'>;

/** Makes a host without members. Its first line continues the log `inherited`, if there is one. */
export function makeHost<Tab>(url: string, settings: HostSettings, send: Send<Tab>, inherited?: FrameLog): Host<Tab> {
  const members = new Map<Tab, Member>();
  const questions: (((headers: RequestHeaders | PromiseLike<RequestHeaders>) => void) | undefined)[] = [];
  let lines: Line[] = [];

  /** Asks the newest tab for the headers and, if it has not answered after a second, all tabs. */
  function askHeaders(): Promise<RequestHeaders> {
    return new Promise((resolve) => {
      const question = questions.push(resolve) - 1;
      send([...members.keys()].at(-1), 'ask', question);
      setTimeout(() => questions[question] && send(undefined, 'ask', question), 1_000);
    });
  }

  function open(member: Member, tab: Tab): void {
    const { id, n, term: was, isOver } = member.place;
    const line: Line = {
      term: Math.random(),
      was,
      base: n,
      log: inherited ?? makeLog(id, n),
      status: isOver ? 'ended' : 'connecting',
    };
    inherited = undefined;
    line.source = openHttp(
      url,
      { ...settings, from: id, headers: askHeaders, isResting: isOver },
      (frames) => {
        const { n } = line.log;
        line.opening ??= frames[0]!.id;
        line.log.add(frames);
        send(undefined, 'frames', line.term, n, frames);
        merge();
      },
      (status) => {
        line.status = status;
        // Opened without an id, the stream begins afresh: what came before is nothing for a late tab.
        if (status === 'open' && !line.log.id) line.log = makeLog('', line.log.n);
        send(undefined, 'status', line.term, status);
      },
      (...error) => send(undefined, 'error', line.term, ...error),
    );
    lines.push(line);
    serve(member, tab, line, n); // last: a listener in the leading tab may leave at once
  }

  function serve(member: Member, tab: Tab, line: Line, n: number): void {
    // A tab that joins causes one attempt: it must be shown this attempt, and no refusal of an earlier one.
    if (line.status === 'refused') line.source!.reconnect();
    send(tab, 'follow', member.key, line.term, n, line.log.after(n)!, line.status);
    member.line = line;
    member.key = line.term;
  }

  /** Finds a line that goes on after the place of a member, or opens one. */
  function settle(member: Member, tab: Tab): void {
    const { id, n, term } = member.place;
    let from: number | undefined;
    const line = lines.findLast(({ log, term: own, was, base }) => {
      const isNumbered = term && (term === own || (term === was && n <= base));
      // By its id, if the log does not reach back to its number: the answer of the server to this id would be the same.
      from = isNumbered && log.after(n) ? n : log.find(id);
      return from! >= 0;
    });
    if (line) serve(member, tab, line, from!);
    else if (!lines[1]) open(member, tab);
  }

  /** Moves the older tabs to the second line once an event after its opening has arrived on both, unless it is refused. */
  function merge(): void {
    const [old, young] = lines;
    const n = young?.log.find(old!.log.id);
    if (young && n! > young.base && young.status !== 'refused' && old!.log.id !== young.opening) {
      members.forEach((member, tab) => member.line === old && serve(member, tab, young, n!));
      sweep();
    }
  }

  /** Closes the lines without members; a tab that has waited for this can then have one. */
  function sweep(): void {
    lines = lines.filter((line) => [...members.values()].some((one) => one.line === line) || line.source!.close());
    members.forEach((member, tab) => member.line || settle(member, tab));
  }

  function leave(tab?: Tab): void {
    if (tab) members.delete(tab);
    else members.clear();
    sweep();
  }

  return {
    members,
    join(tab, place, key) {
      const member: Member = { place, key };
      members.delete(tab);
      members.set(tab, member);
      settle(member, tab);
      sweep();
    },
    leave,
    act: (tab, what, isOnline) => members.get(tab)?.line?.source![what](isOnline),
    answer(_tab, question, headers, error) {
      questions[question]?.(headers ?? Promise.reject(error));
      questions[question] = undefined;
    },
  };
}
