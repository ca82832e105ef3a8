/*
 * The page of the feed: a stream that all tabs share, a list, a plot, a form. It has no build step, and loads nothing from other
 * sites.
 *
 * Tests and styles depend on these elements and attributes:
 *   body[data-state], #connection[data-state]   connecting | open | reconnecting | ended
 *   #state, #detail, #again                     the state in words, its details, the button to connect again after an end
 *   #readers, #reader, #vital-{load,memory,delay}   the number of readers, the name of this reader, the meters
 *   #feed > li[data-kind=notice|file|machine]   an entry, newest first; [data-id] its event id, if it arrived with one;
 *                                               [data-missed] it was published while the stream was disconnected
 *   #feed > li[data-break=resumed|reset]        a disconnection; [data-missed-count] the number of entries that were replayed
 *   #filter button[data-filter], #feed[data-hide]   show or hide a kind
 *   #publish, #text, #send, #publish-error      the form
 *   #plot canvas, #rate-text                    the plot
 *   #hang-up, #end                              disconnect, or end, the stream of this page
 *   html[data-feed], html[data-elsewhere]       the origin of the stream ('' is this one); the other origin
 */
import { connect } from './sse/client/index.js';
import { shared } from './sse/client/tabs.js';

const KINDS = ['notice', 'file', 'machine'];
const MAX_ENTRIES = 300; // in the list
const PLOT_SECONDS = 120;

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const feedOrigin = root.dataset.feed || location.origin;
const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });

// --- The stream -----------------------------------------------------------------------------------------------------

// The key identifies the user. Here the server knows the reader by a cookie, which all tabs of a browser have.
const stream = connect(new URL('/events', feedOrigin), { credentials: 'include', tabs: shared({ key: '' }) });

let connection; // the name of the stream on the server
let openedAt = 0;
let cut; // { at, how?, reset? } from a disconnection until the next hello
let ahead = 0; // the server's clock minus this one, ms
let mark; // the break in the list that counts the missed entries
let markedUntil = 0;

// A tab that is opened later gets the events since the stream was opened, and only then the status `open`.
const isLive = () => stream.status === 'open';

stream.onStatus((status) => {
  if (status === 'open') {
    openedAt = Date.now();
    $('publish-error').textContent = '';
  } else if (openedAt > 0) cut ??= { at: Date.now(), how: status === 'ended' ? 'Ended' : undefined };
  show();
});
stream.on('hello', (hello) => {
  connection = hello.stream;
  $('reader').textContent = `reader ${hello.reader}`;
  if (!isLive()) return;
  ahead = hello.now - Date.now();
  if (cut && !cut.reset && hello.resumed) {
    mark = breakLine('resumed');
    markedUntil = hello.now;
    count(0);
  }
  if (cut) gaps.push([cut.at, Date.now()]);
  cut = undefined;
});
stream.on('snapshot', ({ entries }) => {
  $('feed').replaceChildren();
  $('empty').hidden = false;
  counts.clear();
  for (const kind of KINDS) total(kind).value = 0;
  for (const entry of entries) add(entry);
  if (cut?.reset) breakLine('reset').textContent = `${since(cut)}. ${cut.reset}`;
});
stream.on('reset', ({ reason }) => {
  cut ??= { at: Date.now() };
  cut.reset = RESETS[reason] ?? RESETS.unknown;
});
stream.on('vitals', ({ load, memory, delay, readers }) => {
  $('readers').textContent = readers;
  $('readers-word').textContent = readers === 1 ? 'reader' : 'readers';
  $('vital-load').textContent = load.toFixed(2);
  $('vital-memory').textContent = `${memory.toFixed(0)} %`;
  $('vital-delay').textContent = `${delay.toFixed(0)} ms`;
});
for (const kind of KINDS) {
  stream.on(kind, (entry, { id }) => {
    const missed = mark !== undefined && entry.at < markedUntil;
    if (missed) count(Number(mark.parentElement.dataset.missedCount) + 1);
    add(entry, id, missed);
    if (isLive()) announce(entry);
  });
}

const RESETS = {
  lost: 'The missed events are no longer in the log, so the state was loaded again.',
  unknown: 'The log of the server does not contain our last event, so the state was loaded again.',
  diverged: 'The log has lost events that were sent, so the state was loaded again.',
};

// --- Its state ------------------------------------------------------------------------------------------------------

const WORDS = { connecting: 'Connecting', open: 'Open', reconnecting: 'Disconnected', ended: 'Ended' };

/** The state that the page shows: before the first opening, a stream that waits is connecting; afterwards, it is reconnecting. */
function state() {
  const { status } = stream;
  if (status === 'open' || status === 'ended') return status;
  return openedAt === 0 ? 'connecting' : 'reconnecting';
}

function show() {
  const shown = state();
  document.body.dataset.state = $('connection').dataset.state = shown;
  if ($('state').textContent !== WORDS[shown]) $('state').textContent = WORDS[shown];
  $('again').hidden = !['ended', 'refused'].includes(stream.status);
  $('hang-up').disabled = $('end').disabled = shown !== 'open';
  if (shown !== 'open') $('readers').textContent = '–'; // unknown while disconnected
  detail();
}

const startedAt = Date.now();

function detail() {
  const now = Date.now();
  const text = {
    connecting: openedAt > 0 ? 'trying now' : now - startedAt > 3000 ? 'No answer yet.' : '',
    open: `since ${clock.format(openedAt)}`,
    waiting: 'trying again soon',
    offline: 'this machine is offline',
    refused: 'The server refuses the stream, and this page does not reconnect by itself.',
    ended: 'The server ended the stream, and this page does not reconnect by itself.',
  }[stream.status];
  if ($('detail').textContent !== text) $('detail').textContent = text;
}

// --- The list -------------------------------------------------------------------------------------------------------

const DESCRIBE = {
  notice: ({ text, from }) => [text, aside(from ? `reader ${from}` : '')],
  file: ({ change, path, bytes, more }) => [
    verb(change),
    ` ${path}`,
    aside([bytes === undefined ? '' : size(bytes), more ? `and ${more} more` : ''].filter(Boolean).join(', ')),
  ],
  machine: ({ what, value, was }) => [
    verb({ load: 'load', memory: 'memory in use', delay: 'delay of the event loop' }[what]),
    ` ${reading(what, value)}`,
    aside(was === undefined || was === value ? '' : `was ${reading(what, was)}`),
  ],
};

const reading = (what, value) =>
  ({ load: value.toFixed(2), memory: `${value.toFixed(0)} %`, delay: `${value.toFixed(0)} ms` })[what];
const size = (bytes) => (bytes < 1000 ? `${bytes} bytes` : `${(bytes / 1000).toFixed(1)} kB`);
const verb = (text) => element('span', 'verb', text);
const aside = (text) => (text ? element('span', 'aside', `  ${text}`) : '');

function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content); // strings become text, never markup
  return made;
}

function add(entry, id, missed) {
  const { kind, at } = entry;
  const time = element('time', '', clock.format(at));
  time.dateTime = new Date(at).toISOString();
  const line = element('li', id ? 'fresh' : '', time, element('p', '', ...DESCRIBE[kind](entry)));
  line.dataset.kind = kind;
  if (id) line.dataset.id = id;
  if (missed) line.dataset.missed = '';
  $('feed').prepend(line);
  while ($('feed').childElementCount > MAX_ENTRIES) $('feed').lastElementChild.remove();
  $('empty').hidden = true;
  const second = Math.floor((at - ahead) / 1000);
  if (!counts.has(second)) counts.set(second, { notice: 0, file: 0, machine: 0 });
  counts.get(second)[kind] += 1;
  total(kind).value = Number(total(kind).value) + 1;
}

function breakLine(how) {
  const text = element('p', '');
  const line = element('li', '', text);
  line.dataset.break = how;
  $('feed').prepend(line);
  return text;
}

const since = ({ at, how = 'Disconnected' }) => `${how} for ${((Date.now() - at) / 1000).toFixed(1)} s`;

function count(missed) {
  const line = mark.parentElement;
  line.dataset.missedCount = missed;
  mark.dataset.since ??= since(cut);
  mark.textContent = `${mark.dataset.since}, ${missed === 0 ? 'nothing missed' : `received ${missed} missed`}`;
}

const total = (kind) => document.querySelector(`[data-filter=${kind}] output`);
const hidden = (kind) => document.querySelector(`[data-filter=${kind}]`).ariaPressed === 'false';

$('filter').addEventListener('click', ({ target }) => {
  const button = target.closest('button');
  if (!button) return;
  button.ariaPressed = String(button.ariaPressed !== 'true');
  $('feed').dataset.hide = KINDS.filter(hidden).join(' ');
  redraw();
});

// For screen readers: at most one announcement in five seconds, and only of entries that are shown.
let unannounced = [];
function announce(entry) {
  if (hidden(entry.kind)) return;
  if (unannounced.length === 0) setTimeout(announceAll, entry.kind === 'notice' ? 300 : 5000);
  unannounced.push(entry);
}

function announceAll() {
  const notices = unannounced.filter(({ kind }) => kind === 'notice');
  const rest = unannounced.length - notices.length;
  const sentences = notices.slice(-2).map(({ text, from }) => `reader ${from}: ${text}`);
  if (rest > 0) sentences.push(`${rest} more ${rest === 1 ? 'event' : 'events'}`);
  $('announcer').textContent = sentences.join('. ');
  unannounced = [];
}

// --- The plot -------------------------------------------------------------------------------------------------------

const counts = new Map(); // second → the number of entries of each kind
const gaps = []; // [from, to], ms: disconnections
const color = (name) => () => getComputedStyle(root).getPropertyValue(`--${name}`);
let plot;

// uPlot formats numbers in navigator.language. Where Chromium has no locale, that is not a valid language tag: `en-US@posix`.
try {
  Intl.getCanonicalLocales(navigator.language);
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en' });
}

// The feed does not wait for the plot, and works without it.
import('/vendor/uPlot.esm.js').then(
  ({ default: uPlot }) => makePlot(uPlot),
  () => ($('rate').hidden = true),
);

function makePlot(uPlot) {
  const paths = uPlot.paths.bars({ size: [0.72, 9], align: 1 });
  const series = (kind) => ({ fill: color(kind), width: 0, paths, points: { show: false } });
  const axis = { stroke: color('quiet'), gap: 4, ticks: { show: false } };
  plot = new uPlot(
    {
      width: $('plot').clientWidth,
      height: $('plot').clientHeight,
      padding: [6, 0, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: false, range: () => [-PLOT_SECONDS, 0] },
        y: { range: (_, __, max) => [0, Math.max(4, max)] },
      },
      axes: [
        {
          ...axis,
          size: 26,
          grid: { show: false },
          splits: () => [-90, -60, -30],
          values: (_, splits) => splits.map((seconds) => `${-seconds} s ago`),
        },
        {
          ...axis,
          size: 28,
          grid: { stroke: color('hair'), width: 1 },
          splits: (_, __, ___, max) => [0, Math.ceil(max / 2), Math.ceil(max)],
        },
      ],
      series: [{}, series('machine'), series('file'), series('notice')],
      hooks: { drawClear: [drawGaps] },
    },
    [[], [], [], []],
    $('plot'),
  );
  const fit = () => plot.setSize({ width: $('plot').clientWidth, height: $('plot').clientHeight });
  new ResizeObserver(fit).observe($('plot'));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plot.redraw());
  redraw();
}

/** Draws stacked bars: the total first, then the smaller sums over it. */
function redraw() {
  const now = Math.floor(Date.now() / 1000);
  const data = [[], [], [], []];
  let minute = 0;
  for (const second of counts.keys()) if (second < now - PLOT_SECONDS) counts.delete(second);
  for (let back = PLOT_SECONDS; back >= 1; back--) {
    const at = counts.get(now - back);
    const [notice, file, machine] = KINDS.map((kind) => (at && !hidden(kind) ? at[kind] : 0));
    data[0].push(-back);
    data[1].push(machine + file + notice || null);
    data[2].push(file + notice || null);
    data[3].push(notice || null);
    if (back <= 60) minute += machine + file + notice;
  }
  plot?.setData(data);
  const text = `${minute} in the last minute`;
  if ($('rate-text').textContent !== text) $('rate-text').textContent = text;
}

function drawGaps({ ctx, bbox, valToPos }) {
  const now = Date.now();
  ctx.save();
  ctx.fillStyle = color('cut')();
  ctx.globalAlpha = 0.16;
  for (const [from, to] of cut ? [...gaps, [cut.at, now]] : gaps) {
    const left = Math.max(bbox.left, valToPos((from - now) / 1000, 'x', true));
    const right = valToPos((to - now) / 1000, 'x', true);
    if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
  }
  ctx.restore();
}

// --- The form and the buttons ---------------------------------------------------------------------------------------

const post = (path, body) =>
  fetch(new URL(path, feedOrigin), {
    method: 'POST',
    credentials: 'include',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });

$('publish').addEventListener('submit', async (event) => {
  event.preventDefault();
  const field = $('text');
  $('send').disabled = true;
  try {
    const answer = await post('/notices', { text: field.value });
    if (!answer.ok) throw new Error((await answer.json()).error);
    field.value = '';
    $('publish-error').textContent = '';
  } catch (error) {
    $('publish-error').textContent =
      error instanceof TypeError ? 'The server cannot be reached. Your text is still in the form.' : error.message;
  }
  $('send').disabled = false;
  field.focus();
});

for (const [id, how] of [
  ['hang-up', 'close'],
  ['end', 'end'],
]) {
  $(id).addEventListener('click', () => void post(`/streams/${connection}/${how}`, {}).catch(() => undefined));
}
$('again').addEventListener('click', () => stream.reconnect());

$('feed-origin').textContent = feedOrigin;
$('curl').textContent = `curl -N ${feedOrigin}/events`;
$('elsewhere').href = root.dataset.elsewhere;
$('origins').textContent =
  feedOrigin === location.origin
    ? ''
    : `This page is from ${location.origin}, another origin, so it reads the stream with CORS and credentials. The two ports share a host, and so its cookies.`;
setInterval(redraw, 1000);
setInterval(detail, 250);
show();
redraw();
