/*
 * The sessions of the programs before and after the move from socket.io.
 */
const sessions = new Map([
  ['s-ada', 'ada'],
  ['s-bob', 'bob'],
]);

/** Returns the user of a session cookie, or `undefined`. */
export function userOf(cookie = ''): string | undefined {
  return sessions.get(/(?:^|;\s*)session=([^;]+)/.exec(cookie)?.[1] ?? '');
}
