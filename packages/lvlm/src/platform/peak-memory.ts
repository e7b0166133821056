/** The highest resident set of the process over a stretch of time, where the system tells it (Linux). */
import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Starts a stretch.
 * @returns a function that ends it and returns the peak in bytes, null where the system cannot tell
 */
export function measurePeakRss(): () => number | null {
  try {
    writeFileSync('/proc/self/clear_refs', '5'); // sets the high-water mark back to what is resident now (proc(5))
  } catch {
    return () => null;
  }
  return () => {
    const match = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
    return match ? Number(match[1]) * 1024 : null;
  };
}
