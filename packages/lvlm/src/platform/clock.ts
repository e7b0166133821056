/** Milliseconds on the clock that all threads of the process share. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
