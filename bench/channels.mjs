// The channels that the users of the scenarios `private` and `audiences` join, by the shape of the audience.
// Invariant: they depend on the number of the user alone, so a scenario can compute the number of deliveries.

const TOPICS = 20;
export const ROOMS = 200;
const ROOMS_OF_USER = 20;

export const channelsOf = {
  own: (user) => [`user:${user}`],
  parity: (user) => [`user:${user}`, user % 2 === 0 ? 'even' : 'odd'],
  mixed: (user) => [`user:${user}`, 'all'],
  topics: (user) => Array.from({ length: TOPICS }, (_, i) => `topic:${user}:${i}`),
  rooms: (user) => roomsOf(user).map((room) => `room:${room}`),
};

/** Nearly every user has rooms that no other user has together. */
function roomsOf(user) {
  const rooms = new Set();
  for (let x = user + 1; rooms.size < ROOMS_OF_USER;) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) & 0x7fffffff;
    rooms.add((x >>> 8) % ROOMS);
  }
  return [...rooms];
}

/** Returns the number of users in each room. */
export function sizesOfRooms(users) {
  const sizes = Array.from({ length: ROOMS }, () => 0);
  for (let user = 0; user < users; user++) for (const room of roomsOf(user)) sizes[room]++;
  return sizes;
}
