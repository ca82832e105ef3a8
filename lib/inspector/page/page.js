/*
 * The inspector's page: reads one event stream and shows its content. Data is inserted as text, never as markup.
 *
 * Tests and styles depend on these:
 *   body[data-state]                                connecting | open | disconnected
 *   #now-{connections,events,bytes}, #plot-… canvas the plots and their latest values
 *   #figures div[data-figure] dd                    the figures, by name
 *   #channel, #name, #clear                         the filter
 *   #rows tr[data-id], #range, #order, #previous, #next
 *   #entries li[data-id], #pause, #skipped
 *   #publish-form, #published                       if publishing is enabled
 *   #run-rows tr[data-run], #run-counts             the runs, of a router of runs
 *   dialog#one, #one-closed, #close, #end           one connection
 */
const MAX_ENTRIES = 200; // events in the list
const PLOT_SECONDS = 300;
const HIDDEN_TIMEOUT_MS = 30_000; // a page that is hidden for longer closes its stream
const REOPEN_DELAY_MS = 5000; // after a response that EventSource does not retry
const TYPING_DELAY_MS = 250;
const GAP_MS = 5000; // points further apart are not joined by a line
const ROWS_PER_PAGE = 25;

const $ = (id) => document.getElementById(id);

// --- Formatting and elements --------------------------------------------------------------------------------------------

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

/**
 * Control characters, and those that change the direction of the text after them: with these, a name or an event could make
 * the page show other text than it contains. The line end and the tab are not among them.
 */
// oxlint-disable-next-line no-control-regex
const CONTROLS = /[\0-\x08\x0B-\x1F\x7F-\x9F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]/g;

/** Escapes {@link CONTROLS}. Everything that a client or an application has named passes through here before it is shown. */
function visible(text) {
  return text.replace(CONTROLS, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Sets the text of an element if it is not the same already. */
function setText(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

function createElement(name, { textContent, title, ...props } = {}, ...children) {
  const element = Object.assign(document.createElement(name), props);
  if (title !== undefined) element.title = visible(title);
  if (textContent !== undefined) element.textContent = visible(textContent);
  element.append(...children.map((child) => (typeof child === 'string' ? visible(child) : child)));
  return element;
}

// --- The stream ---------------------------------------------------------------------------------------------------------

const view = { channel: '', name: '', order: 'oldest', page: 0, selected: '' };
let source;

/**
 * Opens a stream for the current view. The old stream is closed when the new one is open, so that the server has a viewer all
 * the time.
 */
function openStream() {
  const query = new URLSearchParams(Object.entries(view).filter(([, value]) => value));
  const previous = source;
  const next = new EventSource(`feed?${query}`);
  source = next;
  next.onopen = () => {
    previous?.close();
    if (source === next) showState('open', 'Live');
  };
  next.onerror = () => {
    previous?.close();
    if (source !== next) return;
    showState('disconnected', 'Disconnected: reconnecting');
    // EventSource does not retry after a refusal, which may be temporary.
    if (next.readyState === EventSource.CLOSED) setTimeout(() => source === next && openStream(), REOPEN_DELAY_MS);
  };
  for (const [name, handle] of Object.entries(handlers)) {
    next.addEventListener(name, ({ data }) => {
      if (source === next) handle(JSON.parse(data));
    });
  }
}

function showState(state, text) {
  document.body.dataset.state = state;
  setText($('state'), text);
}

const handlers = {
  hello({ process, publish, points: all }) {
    setText($('process'), `process ${process}`);
    $('publish').hidden = !publish;
    points = all;
    draw();
    startEntries();
  },
  figures(figures) {
    if (figures.point) {
      points.push(figures.point);
      if (points.length > PLOT_SECONDS) points.shift();
    }
    draw();
    showFigures(figures);
    showChannels(figures.channels);
    if (figures.runs) showRuns(figures.runs, figures.stats.runs);
  },
  connections: showConnections,
  entries: showEntries,
  selected: showDetails,
};

let hiddenTimer;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiddenTimer);
  if (!document.hidden) {
    if (!source) openStream();
    return;
  }
  hiddenTimer = setTimeout(() => {
    source?.close();
    source = undefined;
    showState('disconnected', 'Paused while this page is hidden');
  }, HIDDEN_TIMEOUT_MS);
});

// --- Plots --------------------------------------------------------------------------------------------------------------

let points = [];
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const PLOTS = [
  { key: 'connections', format: (value) => whole.format(value), tick: (value) => short.format(value) },
  { key: 'events', format: number, tick: (value) => short.format(value) },
  { key: 'bytes', format: bytes, tick: (value) => bytes(value).replace(/\.0+ /, ' ') },
];
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plots = PLOTS.map((options, index) => createPlot(options, index));
let hovered = null;

function createPlot({ key, tick }, index) {
  const place = $(`plot-${key}`);
  const axis = { stroke: () => color('--muted'), font: `11px ${getComputedStyle(document.body).fontFamily}` };
  const grid = { stroke: () => color('--border'), width: 1 };
  const plot = new uPlot(
    {
      width: place.clientWidth || 300,
      height: place.clientHeight || 100,
      legend: { show: false },
      padding: [8, 22, 0, 0],
      cursor: { y: false, sync: { key: 'seconds' }, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { range: () => [plotStart(), Date.now() / 1000] },
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
            if (index > 0) return; // the cursors of all plots move together
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

/** Returns where the plots begin, in seconds: five minutes ago, or at the first point, but at least one minute ago. */
function plotStart() {
  const now = Date.now() / 1000;
  return Math.max(now - PLOT_SECONDS, Math.min(now - 60, (points[0]?.[0] ?? Infinity) / 1000));
}

function clockAt(seconds, step) {
  return clock.format(seconds * 1000).slice(0, step < 60 ? 8 : 5);
}

/** Draws the points. A time without viewers, and so without points, is a gap and not a line. */
function draw() {
  const data = [[], [], [], []];
  let previous;
  for (const [at, ...values] of points) {
    if (previous !== undefined && at - previous > GAP_MS) {
      data[0].push(previous / 1000 + 1);
      for (const row of data.slice(1)) row.push(null);
    }
    data[0].push(at / 1000);
    for (const [index, value] of values.entries()) data[index + 1].push(value);
    previous = at;
  }
  for (const [index, plot] of plots.entries()) plot.setData([data[0], data[index + 1]]);
  showNow();
}

function showNow() {
  const at = hovered === null ? undefined : plots[0].data[0][hovered];
  for (const [index, { key, format }] of PLOTS.entries()) {
    const value = at === undefined ? points.at(-1)?.[index + 1] : plots[index].data[1][hovered];
    if (value === undefined || value === null) continue;
    const small = at === undefined ? '' : `at ${clock.format(at * 1000)}`;
    const text = `${format(value)} ${small}`;
    const place = $(`now-${key}`);
    if (place.textContent !== text)
      place.replaceChildren(`${format(value)} `, createElement('small', { textContent: small }));
  }
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  for (const plot of plots) plot.redraw(true, true);
});

// --- Figures ------------------------------------------------------------------------------------------------------------

const plain = (value) => ({ text: whole.format(value), zero: value === 0 });
const bad = (value) => ({ ...plain(value), bad: value > 0 });
const idOf = (value) => ({ text: value || '–', id: true });
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
    Head: ({ log }) => idOf(log.head),
    Oldest: ({ log }) => idOf(log.entries > 0 ? log.oldest : ''),
  },
};

for (const [title, figures] of Object.entries(FIGURES)) {
  const list = createElement('dl');
  for (const name of Object.keys(figures)) {
    const row = createElement(
      'div',
      {},
      createElement('dt', { textContent: name }),
      createElement('dd', { textContent: '–' }),
    );
    row.dataset.figure = name;
    list.append(row);
  }
  $('figures').append(createElement('div', {}, createElement('h2', { textContent: title }), list));
}

function showFigures(all) {
  for (const figures of Object.values(FIGURES)) {
    for (const [name, read] of Object.entries(figures)) {
      const { text, title = '', zero = false, bad = false, id = false } = read(all);
      const row = document.querySelector(`[data-figure="${name}"]`);
      const dd = row.lastChild;
      setText(dd, text);
      row.className = [zero && 'zero', bad && 'bad', id && 'id'].filter(Boolean).join(' ');
      if (id || title) dd.title = visible(title || text);
    }
  }
}

// --- Filter -------------------------------------------------------------------------------------------------------------

let typingTimer;

function changeView(changes) {
  Object.assign(view, changes);
  $('clear').hidden = !view.channel && !view.name;
  history.replaceState(
    null,
    '',
    `#${new URLSearchParams(Object.entries(view).filter(([key, value]) => value && key !== 'selected'))}`,
  );
  openStream();
}

for (const key of ['channel', 'name']) {
  $(key).addEventListener('input', () => {
    clearTimeout(typingTimer);
    typingTimer = setTimeout(() => changeView({ [key]: $(key).value.trim(), page: 0 }), TYPING_DELAY_MS);
  });
}
$('filter').addEventListener('submit', (event) => event.preventDefault());
$('filter').addEventListener('reset', () => changeView({ channel: '', name: '', page: 0 }));

function showChannels({ top }) {
  const list = $('channels');
  while (list.children.length > top.length) list.lastChild.remove();
  for (const [index, [name, members]] of top.entries()) {
    if (index === list.children.length)
      list.append(
        createElement('li', {}, createElement('button', { type: 'button' }, createElement('b'), createElement('span'))),
      );
    const button = list.children[index].firstChild;
    button.dataset.channel = name;
    button.title = visible(name);
    button.setAttribute('aria-pressed', String(view.channel === name));
    button.firstChild.className = 'name';
    setText(button.firstChild, name);
    setText(button.lastChild, whole.format(members));
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
  changeView({ channel: $('channel').value, page: 0 });
});

function suggest(id, names) {
  const text = names.join('\n');
  if ($(id).dataset.names === text) return;
  $(id).dataset.names = text;
  $(id).replaceChildren(...names.map((value) => createElement('option', { value })));
}

// --- Connections --------------------------------------------------------------------------------------------------------

const rows = new Map();
const COLUMN_CLASSES = ['', 'number', 'number', 'minor', 'minor'];

function showConnections({ total, offset, rows: list }) {
  const ids = new Set(list.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  for (const [index, connection] of list.entries()) {
    const row = rows.get(connection.id) ?? createRow(connection.id);
    const cells = [...row.children];
    setText(cells[0].firstChild, connection.address);
    setText(cells[1], age(connection.age));
    setText(cells[2], connection.queued === 0 ? '–' : bytes(connection.queued));
    const channels = connection.channels.join(', ') + (connection.more ? ` and ${connection.more} more` : '');
    setText(cells[3], channels || '–');
    cells[3].title = visible(channels);
    setText(cells[4], connection.lastId || '–');
    cells[4].title = visible(connection.lastId);
    row.className = connection.behind ? 'behind' : '';
    if ($('rows').children[index] !== row) $('rows').insertBefore(row, $('rows').children[index] ?? null);
  }
  view.page = Math.floor(offset / ROWS_PER_PAGE);
  setText(
    $('range'),
    total === 0 ? '' : `${whole.format(offset + 1)}–${whole.format(offset + list.length)} of ${whole.format(total)}`,
  );
  $('no-connections').hidden = total > 0;
  setText($('no-connections'), view.channel ? `No connection has joined ${view.channel}.` : 'No open connections.');
  document.querySelector('table').hidden = total === 0;
  $('pages').hidden = total <= ROWS_PER_PAGE;
  $('previous').disabled = offset === 0;
  $('next').disabled = offset + list.length >= total;
}

function createRow(id) {
  const row = createElement('tr');
  for (const className of COLUMN_CLASSES) row.append(createElement('td', { className }));
  row.firstChild.append(createElement('button', { type: 'button', title: id }));
  row.dataset.id = id;
  rows.set(id, row);
  return row;
}

$('order').addEventListener('change', () => changeView({ order: $('order').value, page: 0 }));
$('previous').addEventListener('click', () => changeView({ page: view.page - 1 }));
$('next').addEventListener('click', () => changeView({ page: view.page + 1 }));
$('rows').addEventListener('click', ({ target }) => {
  const id = target.closest('tr')?.dataset.id;
  if (id === undefined) return;
  for (const part of ['one-figures', 'one-headers']) $(part).replaceChildren();
  setText($('one-title'), id);
  setText($('one-error'), '');
  $('one-closed').hidden = true;
  for (const button of $('one-actions').children) button.disabled = false;
  $('one').showModal();
  changeView({ selected: id });
});

// --- Runs ---------------------------------------------------------------------------------------------------------------

/** Shows the runs of a router of runs, which has no broadcasts. */
function showRuns(list, { running, ended }) {
  $('events').hidden = true;
  $('runs').hidden = false;
  const counts = [`${whole.format(running)} running here`];
  for (const [status, count] of Object.entries(ended)) if (count > 0) counts.push(`${whole.format(count)} ${status}`);
  setText($('run-counts'), counts.join(' · '));
  $('no-runs').hidden = list.length > 0;
  $('run-rows').replaceChildren(
    ...list.map(({ id, status, chunks, readers }) => {
      const row = createElement(
        'tr',
        {},
        createElement('td', { textContent: id, title: id }),
        createElement('td', { textContent: status }),
        createElement('td', { textContent: whole.format(chunks), className: 'number' }),
        createElement('td', { textContent: whole.format(readers), className: 'number' }),
      );
      row.dataset.run = id;
      return row;
    }),
  );
}

// --- One connection -----------------------------------------------------------------------------------------------------

const CLOSE_REASONS = {
  client: 'by the client',
  handler: 'by the server; the client may reconnect',
  end: 'ended for good',
  slow: 'the client was too slow',
  expired: 'it reached its maximum age',
  shutdown: 'the router shuts down',
  error: 'an error was thrown',
  unknown: 'no open connection has this id',
};

function showDetails(connection) {
  if (!$('one').open || connection.id !== view.selected || !$('one-closed').hidden) return;
  if (connection.closed !== undefined) {
    $('one-closed').hidden = false;
    setText($('one-closed'), `Closed: ${CLOSE_REASONS[connection.closed] ?? connection.closed}.`);
    for (const button of $('one-actions').children) button.disabled = true;
    return;
  }
  const channels = connection.channels.join(', ') + (connection.more ? ` and ${connection.more} more` : '');
  fillList($('one-figures'), [
    ['Address', connection.address],
    ['Socket', connection.peer],
    ['Open for', age(connection.age)],
    ['Request', connection.requestLine, 'code'],
    ['Channels', channels || 'none'],
    ['Queued', bytes(connection.queued)],
    [
      'Keeps up',
      connection.behind
        ? 'no, it is behind'
        : connection.source === 'live'
          ? 'yes'
          : `catching up (${connection.source})`,
    ],
    ['Last-Event-ID', connection.lastEventId || 'none', 'code'],
    ['Last id sent', connection.lastId || 'none', 'code'],
  ]);
  fillList(
    $('one-headers'),
    connection.headers.map(([name, value]) => (value === null ? [name, 'not shown', 'secret'] : [name, value, ''])),
  );
}

function fillList(place, entries) {
  while (place.children.length > entries.length) place.lastChild.remove();
  for (const [index, [name, value, kind = '']] of entries.entries()) {
    if (index === place.children.length)
      place.append(createElement('div', {}, createElement('dt'), createElement('dd')));
    const [dt, dd] = place.children[index].children;
    setText(dt, name);
    setText(dd, value);
    dd.className = kind;
  }
}

$('one').addEventListener('close', () => {
  if (!$('one').open) changeView({ selected: '' }); // the dialog may be open again when this event comes
});
for (const action of ['close', 'end']) {
  $(action).addEventListener('click', async () => {
    setText($('one-error'), '');
    try {
      await post(`connections/${encodeURIComponent(view.selected)}/${action}`, {}); // the stream reports when it is closed
    } catch (error) {
      setText($('one-error'), error.message);
    }
  });
}

async function post(path, body) {
  const response = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  }).catch(() => {
    throw new Error('The server cannot be reached.');
  });
  const { status } = response;
  const result = status === 204 ? {} : await response.json().catch(() => ({ error: `The server answered ${status}.` }));
  if (!response.ok) throw new Error(result.error);
  return result;
}

// --- Events -------------------------------------------------------------------------------------------------------------

const names = new Set();
const times = new Map(); // by id, when an event arrived that was broadcast while the page was open
let paused = false;
let waiting = []; // events that are not in the list yet, newest first
let listedFilter;
let isFirst = true; // the next events were broadcast before the view was opened

/** Empties the list if its filter has changed. */
function startEntries() {
  const filter = JSON.stringify([view.channel, view.name]);
  isFirst = filter !== listedFilter;
  if (!isFirst) return;
  listedFilter = filter;
  waiting = [];
  $('entries').replaceChildren();
  setText($('skipped'), '');
  updateEmptyHint();
}

function showEntries({ entries, skipped }) {
  const known = new Set([
    ...waiting.map(({ id }) => id),
    ...[...$('entries').children].map(({ dataset }) => dataset.id),
  ]);
  for (const { id, event } of entries) {
    if (names.size < 100) names.add(event);
    if (!isFirst && !known.has(id) && !times.has(id)) times.set(id, Date.now());
  }
  for (const id of times.keys()) {
    if (times.size <= 1000) break;
    times.delete(id);
  }
  isFirst = false;
  waiting = [...entries.filter(({ id }) => !known.has(id)), ...waiting].slice(0, MAX_ENTRIES);
  setText($('skipped'), skipped ? `${whole.format(skipped)} more in the last second` : '');
  suggest('event-names', [...names]);
  flushEntries();
}

/** Moves the waiting events into the list, or shows their number while the list is paused. */
function flushEntries() {
  if (paused)
    return setText(
      $('pause'),
      waiting.length > 0 ? `Resume (${waiting.length}${waiting.length === MAX_ENTRIES ? '+' : ''} new)` : 'Resume',
    );
  const list = $('entries');
  list.prepend(...waiting.map(createEntry));
  waiting = [];
  while (list.children.length > MAX_ENTRIES) list.lastChild.remove();
  updateEmptyHint();
}

function updateEmptyHint() {
  $('no-entries').hidden = $('entries').children.length > 0;
  setText(
    $('no-entries'),
    view.channel || view.name ? 'No broadcast event matches the filter.' : 'Nothing has been broadcast yet.',
  );
}

function createEntry({ id, event, data, size, to, except }) {
  const time = createElement('time', { textContent: times.has(id) ? clock.format(times.get(id)) : '' });
  const text = createElement('span', { className: 'data' }, data.slice(0, 200));
  if (to) text.prepend(createElement('span', { className: 'to', textContent: to.join(', ') || 'no channel' }));
  const facts = [
    `id ${id}`,
    to ? `to ${to.join(', ') || 'no channel'}` : 'to all connections',
    except && `except ${except.join(', ')}`,
  ].filter(Boolean);
  const item = createElement(
    'li',
    {},
    createElement(
      'details',
      {},
      createElement(
        'summary',
        {},
        time,
        createElement('span', { className: 'name', textContent: event }),
        text,
        createElement('span', { className: 'size', textContent: bytes(size) }),
      ),
      createElement(
        'div',
        { className: 'whole' },
        createElement('pre', { textContent: data }),
        createElement('p', { textContent: facts.join(' · ') }),
      ),
    ),
  );
  item.dataset.id = id;
  return item;
}

$('pause').addEventListener('click', () => {
  paused = !paused;
  $('pause').setAttribute('aria-pressed', String(paused));
  if (!paused) setText($('pause'), 'Pause');
  flushEntries();
});

$('publish-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const { event: name, data, to } = Object.fromEntries(new FormData(event.target));
  const channels = to.split(/[\s,]+/).filter(Boolean);
  try {
    const { id } = await post('publish', { event: name.trim(), data, to: channels });
    $('published').className = '';
    setText($('published'), `Published as ${id}`);
  } catch (error) {
    $('published').className = 'wrong';
    setText($('published'), error.message);
  }
});

// --- Start --------------------------------------------------------------------------------------------------------------

const saved = new URLSearchParams(location.hash.slice(1));
for (const key of ['channel', 'name']) $(key).value = view[key] = saved.get(key) ?? '';
$('clear').hidden = !view.channel && !view.name;
if (['newest', 'queued'].includes(saved.get('order'))) $('order').value = view.order = saved.get('order');
view.page = Number(saved.get('page')) || 0;
openStream();
