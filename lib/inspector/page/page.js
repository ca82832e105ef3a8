/*
 * The inspector's page: one stream in, and what it says into its places. Text goes in as text, never as markup.
 *
 * For tests and styles, these stay as they are:
 *   body[data-state]                                connecting | open | cut
 *   #now-{connections,events,bytes}, #plot-… canvas the plots and their latest values
 *   #figures div[data-figure] dd                    the figures, by name
 *   #channel, #name, #clear                         the filter
 *   #rows tr[data-id], #range, #order, #previous, #next
 *   #entries li[data-id], #pause, #skipped
 *   #publish-form, #published                       where publishing is allowed
 *   dialog#one, #one-over, #hang-up, #end           one connection
 */
const KEEP = 200; // events in the list
const SPAN = 300; // seconds in the plots
const FORGOTTEN = 30_000; // ms after which a page that nobody sees lets go of its stream

const $ = (id) => document.getElementById(id);

// --- How things are written ---------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });

const number = (value) => (value < 10 ? tenth : whole).format(value);
const milliseconds = (value) =>
  value === null || value === undefined ? '–' : `${value < 10 ? value.toFixed(2) : whole.format(value)} ms`;

function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 ? whole.format(value) : value.toPrecision(3)} ${units[unit]}`;
}

function age(ms) {
  const seconds = Math.floor(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes < 1) return `${seconds} s`;
  if (hours < 1) return `${minutes} min ${seconds % 60} s`;
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Touches the page only where something has changed. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(name, props = {}, ...children) {
  const element = Object.assign(document.createElement(name), props);
  element.append(...children);
  return element;
}

// --- The stream ---------------------------------------------------------------------------------------------------------

const view = { channel: '', name: '', order: 'oldest', page: 0, selected: '' };
let source;

/** A new look is a new stream; the old one goes when the new one is there, so that the server never thinks that nobody looks. */
function look() {
  const query = new URLSearchParams(Object.entries(view).filter(([, value]) => value));
  const before = source;
  const next = new EventSource(`feed?${query}`);
  source = next;
  next.onopen = () => {
    before?.close();
    if (source === next) show('open', 'Live');
  };
  next.onerror = () => {
    before?.close();
    if (source !== next) return;
    show('cut', 'Cut: trying again');
    if (next.readyState === EventSource.CLOSED) setTimeout(() => source === next && look(), 5000); // refused: perhaps not for ever
  };
  for (const [name, hear] of Object.entries(hears)) {
    next.addEventListener(name, ({ data }) => {
      if (source === next) hear(JSON.parse(data));
    });
  }
}

function show(state, text) {
  document.body.dataset.state = state;
  say($('state'), text);
}

const hears = {
  hello({ process, publish, points: all }) {
    say($('process'), `process ${process}`);
    $('publish').hidden = !publish;
    points = all;
    draw();
    startEntries();
  },
  figures(figures) {
    if (figures.point) {
      points.push(figures.point);
      if (points.length > SPAN) points.shift();
    }
    draw();
    showFigures(figures);
    showChannels(figures.channels);
  },
  connections: showConnections,
  entries: showEntries,
  selected: showOne,
};

let forgotten;
document.addEventListener('visibilitychange', () => {
  clearTimeout(forgotten);
  if (!document.hidden) {
    if (!source) look();
    return;
  }
  forgotten = setTimeout(() => {
    source?.close();
    source = undefined;
    show('cut', 'Resting');
  }, FORGOTTEN);
});

// --- Plots --------------------------------------------------------------------------------------------------------------

let points = [];
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const PLOTS = [
  { key: 'connections', write: (value) => whole.format(value), tick: (value) => short.format(value) },
  { key: 'events', write: number, tick: (value) => short.format(value) },
  { key: 'bytes', write: bytes, tick: (value) => bytes(value).replace(/\.0+ /, ' ') },
];
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plots = PLOTS.map((what, index) => plotOf(what, index));
let hovered = null;

function plotOf({ key, tick }, index) {
  const place = $(`plot-${key}`);
  const axis = { stroke: () => color('--quiet'), font: `11px ${getComputedStyle(document.body).fontFamily}` };
  const grid = { stroke: () => color('--hair'), width: 1 };
  const plot = new uPlot(
    {
      width: place.clientWidth || 300,
      height: place.clientHeight || 100,
      legend: { show: false },
      padding: [8, 22, 0, 0],
      cursor: { y: false, sync: { key: 'seconds' }, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { range: () => [since(), Date.now() / 1000] },
        y: { range: (_, _min, max) => [0, Math.max(1, max || 0) * 1.1] },
      },
      axes: [
        {
          ...axis,
          size: 20,
          gap: 2,
          space: 80,
          grid: { show: false },
          ticks: { show: false },
          values: (_, times, _axis, _space, step) => times.map((time) => clockAt(time, step)),
        },
        {
          ...axis,
          size: 52,
          gap: 6,
          space: 26,
          grid,
          ticks: { show: false },
          values: (_, values) => values.map((value) => (value % 1 && value < 1 ? '' : tick(value))),
        },
      ],
      series: [{}, { stroke: () => color('--line'), fill: () => color('--fill'), width: 1.5, points: { show: false } }],
      hooks: {
        setCursor: [
          ({ cursor }) => {
            if (index > 0) return; // the cursors go together
            hovered = cursor.left >= 0 ? (cursor.idx ?? null) : null;
            showNow();
          },
        ],
      },
    },
    [[], []],
    place,
  );
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: place.clientHeight })).observe(place);
  return plot;
}

/** Where the plots begin: five minutes ago, or when somebody began to look; a minute at least. */
function since() {
  const now = Date.now() / 1000;
  return Math.max(now - SPAN, Math.min(now - 60, (points[0]?.[0] ?? Infinity) / 1000));
}

function clockAt(seconds, step) {
  return clock.format(seconds * 1000).slice(0, step < 60 ? 8 : 5);
}

/** Where nobody looked for a while there is a hole, not a line. */
function draw() {
  const data = [[], [], [], []];
  let before;
  for (const [at, ...values] of points) {
    if (before !== undefined && at - before > 5000) {
      data[0].push(before / 1000 + 1);
      for (const row of data.slice(1)) row.push(null);
    }
    data[0].push(at / 1000);
    for (const [index, value] of values.entries()) data[index + 1].push(value);
    before = at;
  }
  for (const [index, plot] of plots.entries()) plot.setData([data[0], data[index + 1]]);
  showNow();
}

function showNow() {
  const at = hovered === null ? undefined : plots[0].data[0][hovered];
  for (const [index, { key, write }] of PLOTS.entries()) {
    const value = at === undefined ? points.at(-1)?.[index + 1] : plots[index].data[1][hovered];
    if (value === undefined || value === null) continue;
    const small = at === undefined ? '' : `at ${clock.format(at * 1000)}`;
    const text = `${write(value)} ${small}`;
    const place = $(`now-${key}`);
    if (place.textContent !== text) place.replaceChildren(`${write(value)} `, make('small', { textContent: small }));
  }
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  for (const plot of plots) plot.redraw(true, true);
});

// --- Figures ------------------------------------------------------------------------------------------------------------

const plain = (value) => ({ text: whole.format(value), zero: value === 0 });
const bad = (value) => ({ ...plain(value), bad: value > 0 });
const ident = (value) => ({ text: value || '–', id: true });
const FIGURES = {
  Delivery: {
    'Broadcasts per second': ({ broadcasts }) => ({ text: broadcasts === undefined ? '–' : number(broadcasts) }),
    'Slowest append': ({ append }) => ({ text: milliseconds(append), title: 'Into the journal, in the last second' }),
    'Slowest hand-out': ({ handOut }) => ({
      text: milliseconds(handOut),
      title: 'Out of the journal to the last write, in the last second',
    }),
    Broadcasts: ({ stats }) => plain(stats.broadcasts),
    'Events delivered': ({ stats }) => plain(stats.events),
    'Bytes delivered': ({ stats }) => ({ text: bytes(stats.bytes) }),
    Heartbeats: ({ stats }) => plain(stats.heartbeats),
  },
  Queues: {
    Connecting: ({ stats }) => plain(stats.connecting),
    Behind: ({ stats }) => bad(stats.behind),
    'Bytes queued': ({ stats }) => ({ text: bytes(stats.bufferedBytes), zero: stats.bufferedBytes === 0 }),
    Channels: ({ stats }) => plain(stats.channels),
    'In no channel': ({ channels }) => plain(channels.none),
  },
  'Opened and closed': {
    Opened: ({ stats }) => plain(stats.opened),
    'By the client': ({ stats }) => plain(stats.closed.client),
    'By the handler': ({ stats }) => plain(stats.closed.handler),
    Ended: ({ stats }) => plain(stats.closed.end),
    Expired: ({ stats }) => plain(stats.closed.expired),
    'Too slow': ({ stats }) => bad(stats.closed.slow),
    Error: ({ stats }) => bad(stats.closed.error),
    Shutdown: ({ stats }) => plain(stats.closed.shutdown),
  },
  'Coming back': {
    Resumed: ({ stats }) => plain(stats.resumes.resumed),
    'Reset: lost': ({ stats }) => bad(stats.resumes.lost),
    'Reset: unknown': ({ stats }) => bad(stats.resumes.unknown),
    'Reset: diverged': ({ stats }) => bad(stats.resumes.diverged),
    'Refused: full': ({ stats }) => bad(stats.refused.connections),
    'Refused: per client': ({ stats }) => bad(stats.refused.perClient),
    'Refused: shutdown': ({ stats }) => plain(stats.refused.shutdown),
  },
  Journal: {
    Engine: ({ stats }) => (stats.journalUp ? { text: 'up' } : { text: 'down', bad: true }),
    'Entries here': ({ log }) => plain(log.entries),
    'Bytes here': ({ log }) => ({ text: bytes(log.bytes) }),
    Head: ({ log }) => ident(log.head),
    Oldest: ({ log }) => ident(log.entries > 0 ? log.oldest : ''),
  },
};

for (const [title, figures] of Object.entries(FIGURES)) {
  const list = make('dl');
  for (const name of Object.keys(figures)) {
    const row = make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: '–' }));
    row.dataset.figure = name;
    list.append(row);
  }
  $('figures').append(make('div', {}, make('h2', { textContent: title }), list));
}

function showFigures(all) {
  for (const figures of Object.values(FIGURES)) {
    for (const [name, read] of Object.entries(figures)) {
      const { text, title = '', zero = false, bad = false, id = false } = read(all);
      const row = document.querySelector(`[data-figure="${name}"]`);
      const dd = row.lastChild;
      say(dd, text);
      row.className = [zero && 'zero', bad && 'bad', id && 'id'].filter(Boolean).join(' ');
      if (id || title) dd.title = title || text;
    }
  }
}

// --- Filter -------------------------------------------------------------------------------------------------------------

let typing;

function change(changes) {
  Object.assign(view, changes);
  $('clear').hidden = !view.channel && !view.name;
  history.replaceState(
    null,
    '',
    `#${new URLSearchParams(Object.entries(view).filter(([key, value]) => value && key !== 'selected'))}`,
  );
  look();
}

for (const key of ['channel', 'name']) {
  $(key).addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ [key]: $(key).value.trim(), page: 0 }), 250);
  });
}
$('filter').addEventListener('submit', (event) => event.preventDefault());
$('filter').addEventListener('reset', () => change({ channel: '', name: '', page: 0 }));

function showChannels({ top }) {
  const list = $('channels');
  while (list.children.length > top.length) list.lastChild.remove();
  for (const [index, [name, members]] of top.entries()) {
    if (index === list.children.length)
      list.append(make('li', {}, make('button', { type: 'button' }, make('b'), make('span'))));
    const button = list.children[index].firstChild;
    button.dataset.channel = name;
    button.title = name;
    button.setAttribute('aria-pressed', String(view.channel === name));
    button.firstChild.className = 'name';
    say(button.firstChild, name);
    say(button.lastChild, whole.format(members));
  }
  suggest(
    'channel-names',
    top.map(([name]) => name),
  );
}

$('channels').addEventListener('click', ({ target }) => {
  const channel = target.closest('button')?.dataset.channel;
  if (channel === undefined) return;
  $('channel').value = view.channel === channel ? '' : channel;
  change({ channel: $('channel').value, page: 0 });
});

function suggest(id, names) {
  const text = names.join('\n');
  if ($(id).dataset.names === text) return;
  $(id).dataset.names = text;
  $(id).replaceChildren(...names.map((value) => make('option', { value })));
}

// --- Connections --------------------------------------------------------------------------------------------------------

const rows = new Map();
const columns = 5;

function showConnections({ total, offset, rows: list }) {
  const ids = new Set(list.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  for (const [index, one] of list.entries()) {
    const row = rows.get(one.id) ?? rowOf(one.id);
    const cells = [...row.children];
    say(cells[0].firstChild, one.address);
    say(cells[1], age(one.age));
    say(cells[2], one.queued === 0 ? '–' : bytes(one.queued));
    const channels = one.channels.join(', ') + (one.more ? ` and ${one.more} more` : '');
    say(cells[3], channels || '–');
    cells[3].title = channels;
    say(cells[4], one.lastId || '–');
    cells[4].title = one.lastId;
    row.className = one.behind ? 'behind' : '';
    if ($('rows').children[index] !== row) $('rows').insertBefore(row, $('rows').children[index] ?? null);
  }
  view.page = Math.floor(offset / 25);
  say(
    $('range'),
    total === 0 ? '' : `${whole.format(offset + 1)}–${whole.format(offset + list.length)} of ${whole.format(total)}`,
  );
  $('nobody').hidden = total > 0;
  say($('nobody'), view.channel ? `Nobody has joined ${view.channel}.` : 'Nobody is connected.');
  document.querySelector('table').hidden = total === 0;
  $('pages').hidden = total <= 25;
  $('previous').disabled = offset === 0;
  $('next').disabled = offset + list.length >= total;
}

function rowOf(id) {
  const row = make('tr');
  for (let n = 0; n < columns; n++)
    row.append(make('td', { className: ['', 'number', 'number', 'minor', 'minor'][n] }));
  row.firstChild.append(make('button', { type: 'button', title: id }));
  row.dataset.id = id;
  rows.set(id, row);
  return row;
}

$('order').addEventListener('change', () => change({ order: $('order').value, page: 0 }));
$('previous').addEventListener('click', () => change({ page: view.page - 1 }));
$('next').addEventListener('click', () => change({ page: view.page + 1 }));
$('rows').addEventListener('click', ({ target }) => {
  const id = target.closest('tr')?.dataset.id;
  if (id === undefined) return;
  for (const part of ['one-figures', 'one-headers']) $(part).replaceChildren();
  say($('one-title'), id);
  say($('one-error'), '');
  $('one-over').hidden = true;
  for (const button of $('one-acts').children) button.disabled = false;
  $('one').showModal();
  change({ selected: id });
});

// --- One connection -----------------------------------------------------------------------------------------------------

const OVERS = {
  client: 'its client left',
  handler: 'closed, its client may come back',
  end: 'ended for good',
  slow: 'cut, as it did not keep up',
  expired: 'it had reached its age',
  shutdown: 'the router closes',
  error: 'something threw',
  gone: 'it is not here any more',
};

function showOne(one) {
  if (!$('one').open || one.id !== view.selected || !$('one-over').hidden) return;
  if (one.over !== undefined) {
    $('one-over').hidden = false;
    say($('one-over'), `Over: ${OVERS[one.over] ?? one.over}.`);
    for (const button of $('one-acts').children) button.disabled = true;
    return;
  }
  const channels = one.channels.join(', ') + (one.more ? ` and ${one.more} more` : '');
  list($('one-figures'), [
    ['Address', one.address],
    ['Socket', one.peer],
    ['Open for', age(one.age)],
    ['Asked for', one.asked, 'code'],
    ['Channels', channels || 'none'],
    ['Queued', bytes(one.queued)],
    ['Keeps up', one.behind ? 'no, it is behind' : one.phase === 'live' ? 'yes' : `catching up (${one.phase})`],
    ['Came with last id', one.lastEventId || 'none', 'code'],
    ['Was sent last id', one.lastId || 'none', 'code'],
  ]);
  list(
    $('one-headers'),
    one.headers.map(([name, value]) => (value === null ? [name, 'not shown', 'secret'] : [name, value, ''])),
  );
}

function list(place, entries) {
  while (place.children.length > entries.length) place.lastChild.remove();
  for (const [index, [name, value, kind = '']] of entries.entries()) {
    if (index === place.children.length) place.append(make('div', {}, make('dt'), make('dd')));
    const [dt, dd] = place.children[index].children;
    say(dt, name);
    say(dd, value);
    dd.className = kind;
  }
}

$('one').addEventListener('close', () => {
  if (!$('one').open) change({ selected: '' }); // it may be open again by the time that this is told
});
for (const [button, how] of [
  ['hang-up', 'close'],
  ['end', 'end'],
]) {
  $(button).addEventListener('click', async () => {
    say($('one-error'), '');
    try {
      await post(`connections/${encodeURIComponent(view.selected)}/${how}`, {}); // the stream tells when it is over
    } catch (error) {
      say($('one-error'), error.message);
    }
  });
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  }).catch(() => {
    throw new Error('The server cannot be reached.');
  });
  const said =
    answer.status === 204 ? {} : await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(said.error);
  return said;
}

// --- Events -------------------------------------------------------------------------------------------------------------

const names = new Set();
const times = new Map(); // when those came that came while we looked
let paused = false;
let waiting = []; // the newest first
let listed; // the filter that the list is of
let isFirst = true; // what comes next was there before

/** The list is of another filter: nothing of it stays. */
function startEntries() {
  const filter = JSON.stringify([view.channel, view.name]);
  isFirst = filter !== listed;
  if (!isFirst) return;
  listed = filter;
  waiting = [];
  $('entries').replaceChildren();
  say($('skipped'), '');
  empty();
}

function showEntries({ entries, skipped }) {
  const there = new Set([
    ...waiting.map(({ id }) => id),
    ...[...$('entries').children].map(({ dataset }) => dataset.id),
  ]);
  for (const { id, event } of entries) {
    if (names.size < 100) names.add(event);
    if (!isFirst && !there.has(id) && !times.has(id)) times.set(id, Date.now());
  }
  for (const id of times.keys()) {
    if (times.size <= 1000) break;
    times.delete(id);
  }
  isFirst = false;
  waiting = [...entries.filter(({ id }) => !there.has(id)), ...waiting].slice(0, KEEP);
  say($('skipped'), skipped ? `${whole.format(skipped)} more in the last second` : '');
  suggest('event-names', [...names]);
  flow();
}

function flow() {
  if (paused)
    return say(
      $('pause'),
      waiting.length > 0 ? `Go on (${waiting.length}${waiting.length === KEEP ? '+' : ''} new)` : 'Go on',
    );
  const list = $('entries');
  list.prepend(...waiting.map(entryOf));
  waiting = [];
  while (list.children.length > KEEP) list.lastChild.remove();
  empty();
}

function empty() {
  $('nothing').hidden = $('entries').children.length > 0;
  say(
    $('nothing'),
    view.channel || view.name ? 'Nothing like this has been broadcast.' : 'Nothing has been broadcast yet.',
  );
}

function entryOf({ id, event, data, size, to, except }) {
  const time = make('time', { textContent: times.has(id) ? clock.format(times.get(id)) : '' });
  const text = make('span', { className: 'data' }, data.slice(0, 200));
  if (to) text.prepend(make('span', { className: 'to', textContent: to.join(', ') || 'nobody' }));
  const facts = [
    `id ${id}`,
    to ? `to ${to.join(', ') || 'nobody'}` : 'to everyone',
    except && `except ${except.join(', ')}`,
  ].filter(Boolean);
  const item = make(
    'li',
    {},
    make(
      'details',
      {},
      make(
        'summary',
        {},
        time,
        make('span', { className: 'name', textContent: event }),
        text,
        make('span', { className: 'size', textContent: bytes(size) }),
      ),
      make(
        'div',
        { className: 'whole' },
        make('pre', { textContent: data }),
        make('p', { textContent: facts.join(' · ') }),
      ),
    ),
  );
  item.dataset.id = id;
  return item;
}

$('pause').addEventListener('click', () => {
  paused = !paused;
  $('pause').setAttribute('aria-pressed', String(paused));
  if (!paused) say($('pause'), 'Pause');
  flow();
});

$('publish-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const { event: name, data, to } = Object.fromEntries(new FormData(event.target));
  const channels = to.split(/[\s,]+/).filter(Boolean);
  try {
    const { id } = await post('publish', { event: name.trim(), data, to: channels });
    $('published').className = '';
    say($('published'), `Published as ${id}`);
  } catch (error) {
    $('published').className = 'wrong';
    say($('published'), error.message);
  }
});

// --- The beginning ------------------------------------------------------------------------------------------------------

const kept = new URLSearchParams(location.hash.slice(1));
for (const key of ['channel', 'name']) $(key).value = view[key] = kept.get(key) ?? '';
$('clear').hidden = !view.channel && !view.name;
if (['newest', 'queued'].includes(kept.get('order'))) $('order').value = view.order = kept.get('order');
view.page = Number(kept.get('page')) || 0;
look();
