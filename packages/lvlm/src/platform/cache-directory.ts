import { homedir } from 'node:os';
import path from 'node:path';

/** `foveate` in the user's cache folder. */
export function defaultCacheDirectory(): string {
  const { XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (XDG_CACHE_HOME) return path.join(XDG_CACHE_HOME, 'foveate');
  if (process.platform === 'win32' && LOCALAPPDATA) return path.join(LOCALAPPDATA, 'foveate', 'cache');
  return path.join(homedir(), process.platform === 'darwin' ? 'Library/Caches' : '.cache', 'foveate');
}
