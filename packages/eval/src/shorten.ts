/** How messages show what a file holds. */

const LONGEST = 60;

/** The value as JSON, cut: however long or deep it is, a message stays a message. */
export function shorten(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string')
    return JSON.stringify(value.length > LONGEST ? `${value.slice(0, LONGEST)}...` : value);
  const text = stringify(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}...` : text;
}

function stringify(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    return 'a value nested too deeply'; // JSON.parse reads deeper than JSON.stringify writes
  }
}
