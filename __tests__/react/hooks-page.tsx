/*
 * The page of hooks.test.ts: components that use each hook, in StrictMode.
 */
import { startTransition, StrictMode, useLayoutEffect, useState } from 'react';
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
/** What each committed frame shows: the URL, then the events. */
const frames: string[] = [];
/** Two streams that stay open. */
const live: Record<string, EventStream<Events>> = {};

function App() {
  const [url, setUrl] = useState('/events');
  const [isMore, setMore] = useState(false);
  const [isThere, setThere] = useState(true);
  const [picked, setPicked] = useState('');
  Object.assign(globalThis, { setUrl, setMore, setThere, setPicked });
  return (
    <>
      {isThere && <Feed url={url} isMore={isMore} />}
      <p id="without">{useEvent<Events, 'item'>(undefined, 'item') ?? 'none'}</p>
      {picked && <Picked stream={(live[picked] ??= connect<Events>(picked))} />}
    </>
  );
}

function Picked({ stream }: { stream: EventStream<Events> }) {
  const items = useEvents(stream, reduce, []);
  return <p id="picked">{`${useStatus(stream)}: ${items.join(' ')}`}</p>;
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
      <Newest stream={stream} url={url} />
      <List stream={stream} url={url} />
      {isMore && <Late stream={stream} />}
    </>
  );
}

function Newest({ stream, url }: { stream: EventStream<Events> | undefined; url: string }) {
  renders.newest = (renders.newest ?? 0) + 1;
  const newest = useEvent(stream, 'item') ?? 'none';
  useLayoutEffect(() => void frames.push(`${url} newest ${newest}`));
  return <p id="newest">{newest}</p>;
}

function List({ stream, url }: { stream: EventStream<Events> | undefined; url: string }) {
  const items = useEvents(stream, reduce, []);
  useLayoutEffect(() => void frames.push(`${url} list ${items.join(' ')}`));
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

Object.assign(globalThis, { made, renders, frames, startTransition });
createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
