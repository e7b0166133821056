/**
 * The order in which CPython goes through a set of whole numbers: by where they lie in its hash table. The
 * official code visits its pivots in that order, and what each takes depends on it.
 */

/** Slots that are looked at one after the other before the search jumps; CPython's `LINEAR_PROBES`. */
const LINEAR_PROBES = 9;
/** CPython's `PERTURB_SHIFT`. */
const PERTURB_SHIFT = 5;

/**
 * The numbers in the order of `list(set(values))` in CPython 3.7 and later.
 * @param values distinct, from 0, below 2^31, in the order in which they are put in
 * @example
 * setOrder([40, 8, 3]); // [40, 8, 3]: 40 and 8 both hash to slot 0 of 8, and 40 was there first
 */
export function setOrder(values: readonly number[]): number[] {
  let table = emptyTable(8);
  for (const [before, value] of values.entries()) {
    insert(table, value);
    const filled = before + 1;
    if (filled * 5 < (table.length - 1) * 3) continue;
    const larger = emptyTable(sizeAbove(filled * 4));
    for (const held of table) if (held !== undefined) insert(larger, held);
    table = larger;
  }
  return table.filter((held) => held !== undefined);
}

type Table = (number | undefined)[];

function emptyTable(size: number): Table {
  return Array.from({ length: size }, () => undefined);
}

/** The lowest power of two above `count`, at least 8. */
function sizeAbove(count: number): number {
  let size = 8;
  while (size <= count) size *= 2;
  return size;
}

/** Into the first free slot of the value's probe sequence; a whole number is its own hash. */
function insert(table: Table, value: number): void {
  const mask = table.length - 1;
  let perturb = value;
  for (let slot = value & mask; ; slot = (slot * 5 + 1 + perturb) & mask) {
    const probes = slot + LINEAR_PROBES <= mask ? LINEAR_PROBES : 0;
    for (let at = slot; at <= slot + probes; at++) {
      if (table[at] !== undefined) continue;
      table[at] = value;
      return;
    }
    perturb >>= PERTURB_SHIFT;
  }
}
