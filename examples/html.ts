/*
 * HTML with values from outside, for examples that send HTML in their events.
 */

const CODES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Returns the template with its values escaped. Without the escaping, a value could add a script to every open page. */
export function html(parts: TemplateStringsArray, ...values: readonly unknown[]): string {
  return String.raw(
    parts,
    ...values.map((value) => String(value).replace(/[&<>"']/g, (character) => CODES[character]!)),
  );
}
