/*
 * The page of hooks.test.ts: components that use each hook, in StrictMode.
 */
import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { connect, type EventStream, type StreamEvent } from '../../lib/client/index.ts';
import { useEvent, useEvents, useStatus, useStream } from '../../lib/react/index.ts';

interface Events {
  list: string[];
  item: string;
}

/** How many streams have been made, and which of them are closed. */
const made: EventStream[] = [];
const renders: Record<string, number> = {};

function App() {
  const [url, setUrl] = useState('/events');
  const [isMore, setMore] = useState(false);
  const [isThere, setThere] = useState(true);
  Object.assign(globalThis, { setUrl, setMore, setThere });
  return (
    <>
      {isThere && <Feed url={url} isMore={isMore} />}
      <p id="without">{useEvent<Events, 'item'>(undefined, 'item') ?? 'none'}</p>
    </>
  );
}

function Feed({ url, isMore }: { url: string; isMore: boolean }) {
  const stream = useStream(() => {
    const stream = connect<Events>(url);
    made.push(stream);
    return stream;
  }, [url]);
  return (
    <>
      <p id="status">{useStatus(stream)}</p>
      <Newest stream={stream} />
      <List stream={stream} />
      {isMore && <Late stream={stream} />}
    </>
  );
}

function Newest({ stream }: { stream: EventStream<Events> | undefined }) {
  renders.newest = (renders.newest ?? 0) + 1;
  return <p id="newest">{useEvent(stream, 'item') ?? 'none'}</p>;
}

function List({ stream }: { stream: EventStream<Events> | undefined }) {
  const items = useEvents(stream, reduce, []);
  return <p id="list">{items.join(' ')}</p>;
}

function reduce(items: string[], event: StreamEvent<Events>): string[] {
  if (event.event === 'list') return event.data;
  if (event.event === 'item') return [...items, event.data];
  return event.event === 'reset' ? [`reset:${event.data.reason}`] : items;
}

function Late({ stream }: { stream: EventStream<Events> | undefined }) {
  const later = useEvents(stream, reduce, []);
  return (
    <p id="late">
      {useEvent(stream, 'item') ?? 'none'} · {later.join(' ')}
    </p>
  );
}

Object.assign(globalThis, { made, renders });
createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
