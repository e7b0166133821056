/** Numbers of 16 bits, which some graphs take or give, and the float32 that the runner works with. */
import { getFloat16, setFloat16 } from '@petamoriken/float16';

const COUNT = 2 ** 16;
let values: Float32Array | undefined;

/** @param data the bits of float16 numbers */
export function fromHalf(data: Uint16Array): Float32Array {
  const table = (values ??= valuesOfAll());
  return Float32Array.from(data, (bits) => table[bits]);
}

/** The bits of the float16 numbers nearest to these, halves to even; Infinity where they are too large. */
export function toHalf(data: Float32Array): Uint16Array {
  const bits = new Uint16Array(data.length);
  const view = new DataView(bits.buffer);
  for (const [i, value] of data.entries()) setFloat16(view, 2 * i, value, true);
  return bits;
}

/** [65536] the number that each 16 bits stand for: a table, because there are logits by the hundred thousand. */
function valuesOfAll(): Float32Array {
  const view = new DataView(Uint16Array.from({ length: COUNT }, (_, bits) => bits).buffer);
  return Float32Array.from({ length: COUNT }, (_, i) => getFloat16(view, 2 * i, true));
}
