/*
 * The page keeps the prompts and the ids of the answers, and shares them with its other tabs. The answers themselves are runs of the
 * server: a page that is loaded again reads each of them from its first token, or from where its EventSource was.
 */
const at = (id) => document.getElementById(id);
/** @type {{ id: string, prompt: string, text?: string, status?: string }[]} With text and status once the answer has ended. */
let turns = [];
/** The list items of the turns, by id. */
const shown = new Map();

const STATES = {
  done: 'Complete',
  stopped: 'Stopped',
  failed: 'The model failed',
  lost: 'Lost: its server ended before the answer did',
};

function load() {
  turns = JSON.parse(localStorage.getItem('turns') ?? '[]');
  for (const id of shown.keys()) if (!turns.some((turn) => turn.id === id)) shown.get(id).remove();
  for (const turn of turns) if (!shown.has(turn.id)) show(turn);
  at('empty').hidden = turns.length > 0;
}

function save() {
  localStorage.setItem('turns', JSON.stringify(turns));
}

function show(turn) {
  const item = at('turn').content.firstElementChild.cloneNode(true);
  item.querySelector('.prompt').textContent = turn.prompt;
  item.querySelector('button').addEventListener('click', () => fetch(`/answers/${turn.id}`, { method: 'DELETE' }));
  shown.set(turn.id, item);
  at('turns').append(item);
  if (turn.status === undefined) follow(turn, item);
  else settle(turn, item);
}

/** Shows an answer while it is written. The browser reconnects by itself, and the server sends what it missed. */
function follow(turn, item) {
  const answer = item.querySelector('.answer');
  const answers = new EventSource(`/answers/${turn.id}`);
  answers.onmessage = ({ data: token }) => answer.append(token);
  answers.addEventListener('end', ({ data: status }) => {
    answers.close();
    settle({ ...turn, text: answer.textContent, status }, item);
  });
  answers.onopen = () => mark(item, 'Answering', true);
  answers.onerror = () => {
    // Closed: the server no longer has the answer, or the page is being closed.
    mark(item, answers.readyState === EventSource.CLOSED ? 'No longer kept' : 'Reconnecting', false);
  };
}

function settle(turn, item) {
  const answer = item.querySelector('.answer');
  answer.textContent = turn.text;
  answer.ariaBusy = 'false';
  mark(item, STATES[turn.status] ?? turn.status, false);
  item.querySelector('.state').dataset.status = turn.status;
  turns = turns.map((one) => (one.id === turn.id ? turn : one));
  save();
}

function mark(item, text, canStop) {
  item.querySelector('.state span').textContent = text;
  item.querySelector('.state button').hidden = !canStop;
}

/** Starts an answer. The page does not read the response: the EventSource of each tab does. A disconnection stops nothing. */
async function ask(turn) {
  for (;;) {
    const response = await fetch('/answers', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(turn),
    }).catch(() => undefined);
    await response?.body?.cancel();
    if (response?.ok) return;
    if (response && response.status !== 503) throw new Error(response.statusText);
    at('notice').textContent = 'The server restarts. Your question is sent again.';
    const seconds = Number(response?.headers.get('Retry-After') ?? 1);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

at('ask').addEventListener('submit', async (event) => {
  event.preventDefault();
  const turn = { id: crypto.randomUUID(), prompt: at('prompt').value };
  at('prompt').value = '';
  try {
    await ask(turn);
    at('notice').textContent = '';
    turns.push(turn);
    save();
    load();
    shown.get(turn.id).scrollIntoView({ block: 'nearest' });
  } catch (error) {
    at('notice').textContent = `The server refused the question: ${error.message}`;
  }
});
at('clear').addEventListener('click', () => {
  localStorage.removeItem('turns');
  load();
});
addEventListener('storage', load); // another tab has asked, or its answer has ended
load();
