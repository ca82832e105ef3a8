/*
 * The answer to a POST, token by token.
 */
// #region answer
import { connect } from '../../lib/client/index.ts';

const answer = connect('/answers', {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ question: 'What is a reset?' }),
  parse: String, // every token is text, also `[` or ` 12`
});

for await (const { event, data } of answer) {
  if (event === 'message') addText(data);
}
// #endregion answer

import { addText } from './show.ts';

addText(` (${answer.status})`);
