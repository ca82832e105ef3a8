/*
 * Values and names as SQL text: the journal's statements contain no parameters, so that each group is one message.
 * Invariant: whatever the value is, the text is one literal or one identifier.
 */

/** A name in double quotes. */
export function quoteName(name: string): string {
  return `"${name.split('"').join('""')}"`;
}

/** A text as a literal. The E form means the same whether `standard_conforming_strings` is on or off. */
export function quoteText(text: string): string {
  return `E'${text.split('\\').join('\\\\').split("'").join("''")}'`;
}

/** The body of a function, in dollar quotes. The names of tables are in it, and a name may contain any delimiter. */
export function quoteBody(body: string): string {
  let tag = 'sse';
  for (let n = 1; body.includes(`$${tag}`); n++) tag = `sse${n}`;
  return `$${tag}$\n${body}\n$${tag}$`;
}

/**
 * Bytes as an expression without backslashes, `?` and `:`: query builders take `?`, `:name` and `$1` for parameters.
 */
export function hexBytes(bytes: Uint8Array | undefined): string {
  if (bytes === undefined) return 'NULL';
  const { buffer, byteOffset, byteLength } = bytes;
  return `decode('${Buffer.from(buffer, byteOffset, byteLength).toString('hex')}', 'hex')`;
}

/** An ASCII text, in the same form as {@link hexBytes}. */
export function hexText(text: string | undefined): string {
  return text === undefined ? 'NULL' : `convert_from(${hexBytes(Buffer.from(text))}, 'UTF8')`;
}

/** A number, or NULL where nothing limits. */
export function finite(value: number): string {
  return Number.isFinite(value) ? String(value) : 'NULL';
}
