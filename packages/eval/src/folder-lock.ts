/** Keeps a results folder to one process at a time. */
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { ResultsError } from './errors.js';

/**
 * The locks of this process: one of its own pid that is not among them is left of a process before it, as
 * pids are few in containers.
 */
const held = new Set<string>();

/**
 * Takes the folder's lock, also that of a process of this host that is dead.
 * @returns releases it
 * @throws ResultsError naming the folder and the process that holds it
 */
export function lockFolder(folder: string): () => void {
  const file = path.join(folder, 'lock');
  if (!create(file)) {
    const owner = statSync(file).isFile() ? readFileSync(file, 'utf8') : ''; // a pipe would never end
    const aside = `${file}.${process.pid}`;
    if (!isStale(file, owner)) throw inUse(folder, file, owner);
    // Moved first, then looked at: another process may have taken the stale lock over meanwhile.
    renameSync(file, aside);
    const isOther = readFileSync(aside, 'utf8') !== owner;
    if (isOther) renameSync(aside, file);
    else rmSync(aside);
    if (isOther || !create(file)) throw inUse(folder, file, readFileSync(file, 'utf8'));
  }
  held.add(file);
  return () => {
    rmSync(file, { force: true });
    held.delete(file);
  };
}

/** Whether there was none. */
function create(file: string): boolean {
  try {
    writeFileSync(file, `${process.pid} ${hostname()}\n`, { flag: 'wx' });
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw cause;
  }
}

function isStale(file: string, owner: string): boolean {
  const [pid, host] = owner.trim().split(' ');
  if (host !== hostname() || !/^[1-9]\d*$/.test(pid)) return false; // nothing is known of it
  if (Number(pid) === process.pid) return !held.has(file);
  try {
    process.kill(Number(pid), 0); // sends nothing
    return false;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

function inUse(folder: string, file: string, owner: string): ResultsError {
  const [pid, host = 'an unknown host'] = owner.trim().slice(0, 300).split(' ');
  return new ResultsError(
    `${folder} is in use by process ${pid || 'unknown'} on ${host}. Wait until it has ended, or choose another folder. If there is no such process, remove ${file}.`,
  );
}
