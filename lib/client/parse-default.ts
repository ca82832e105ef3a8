/*
 * The data of an event, read as JSON only if it begins as an object or an array: as JSON, the token `" 12"` would become 12.
 */

/** Returns text that is no JSON unchanged: a token of a model may be `[`. */
export function parseDefault(data: string): unknown {
  try {
    return /^[[{]/.test(data) ? JSON.parse(data) : data;
  } catch {
    return data;
  }
}
