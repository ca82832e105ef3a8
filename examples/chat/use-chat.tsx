/*
 * The page of the chat with `useChat` of the AI SDK, without a change to it.
 */
import { createRoot } from 'react-dom/client';
import { type FormEvent, useState } from 'react';
// #region docs
import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport, type UIMessage } from 'ai';

const transport = new DefaultChatTransport({ api: '/chats' });

function useResumedChat(id: string, messages: UIMessage[]) {
  const chat = useChat({ id, messages, transport, resume: true });
  // The stop() of useChat only disconnects this tab.
  return { ...chat, stop: () => fetch(`/chats/${id}`, { method: 'DELETE' }) };
}
// #endregion docs

function Chat({ id, messages: initial }: { id: string; messages: UIMessage[] }) {
  const { messages, sendMessage, status, stop } = useResumedChat(id, initial);
  const [text, setText] = useState('');
  const ask = (event: FormEvent) => {
    event.preventDefault();
    void sendMessage({ text });
    setText('');
  };
  return (
    <main>
      <ol>
        {messages.map(({ id: key, role, parts }) => (
          <li key={key} className={role} style={{ whiteSpace: 'pre-wrap' }}>
            {parts.map((part) => (part.type === 'text' ? part.text : '')).join('')}
          </li>
        ))}
      </ol>
      <form onSubmit={ask}>
        <input aria-label="Your question" value={text} onChange={({ target }) => setText(target.value)} required />
        <button>Ask</button>
      </form>
      <p>
        <span role="status">{status}</span>{' '}
        {(status === 'streaming' || status === 'submitted') && <button onClick={stop}>Stop</button>}
      </p>
    </main>
  );
}

const id = (location.hash ||= `#${crypto.randomUUID()}`).slice(1);
const messages = (await (await fetch(`/chats/${id}/messages`)).json()) as UIMessage[];
createRoot(document.getElementById('root')!).render(<Chat id={id} messages={messages} />);
