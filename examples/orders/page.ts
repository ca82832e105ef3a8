/*
 * The page: the orders as events brought them, beside the number of orders in the table.
 */
export const PAGE = `<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <link rel="icon" href="data:,">
  <title>Orders</title>
  <style>
    body { font: 1rem/1.5 system-ui; max-width: 44rem; margin: 2rem auto; padding: 0 1rem }
    form { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1.5rem 0 }
    input, button { font: inherit; padding: .25rem .6rem }
    input { flex: 1 12rem }
    ol { list-style: none; padding: 0; font-variant-numeric: tabular-nums }
    li { border-top: 1px solid color-mix(in srgb, currentColor 15%, transparent); padding: .3rem 0 }
  </style>
  <h1>Orders</h1>
  <p><span id="lamp" role="status">connecting</span> · <span id="events">0</span> by events,
  <span id="rows">0</span> in the table · <span id="refused">0</span> of yours refused</p>
  <form><input name="item" required placeholder="An item"> <button>Order</button>
  <button name="refused" value="1">Order with a card that is refused</button></form>
  <ol id="list"></ol>
  <script>
    const at = (id) => document.getElementById(id);
    const seen = new Map();
    const show = ({ id, item }) => {
      if (seen.has(id)) return;
      seen.set(id, item);
      at('events').textContent = seen.size;
      at('list').prepend(Object.assign(document.createElement('li'), { textContent: id + ': ' + item }));
      at('list').children[30]?.remove();
    };
    /** The events must be exactly the rows. A row may be there some ms before its event. */
    const compare = async () => {
      const rows = await (await fetch('/orders')).json();
      at('rows').textContent = rows.length;
      return rows;
    };
    const events = new EventSource('/events');
    events.onopen = () => (at('lamp').textContent = 'live');
    events.onerror = () => (at('lamp').textContent = 'reconnecting');
    events.addEventListener('order', ({ data }) => (show(JSON.parse(data)), compare()));
    events.addEventListener('checkpoint', async () => (await compare()).forEach(show), { once: true });
    events.addEventListener('reset', async () => (await compare()).forEach(show));
    document.forms[0].addEventListener('submit', async (event) => {
      event.preventDefault();
      const input = event.target.querySelector('input');
      const refused = event.submitter?.name === 'refused';
      const response = await fetch('/orders', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ item: input.value, refused }),
      });
      if (response.status === 402) at('refused').textContent++;
      else input.value = '';
    });
  </script>
</html>
`;
