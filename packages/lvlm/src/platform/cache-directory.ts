/** Where what is worth remembering goes, unless the caller says. */
import { homedir } from 'node:os';
import path from 'node:path';

/**
 * `foveate` in the user's cache folder; null where the user has none, such as one without HOME and without an
 * entry in the system's list of users.
 */
export function defaultCacheDirectory(): string | null {
  const { XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (XDG_CACHE_HOME) return path.join(XDG_CACHE_HOME, 'foveate');
  if (process.platform === 'win32' && LOCALAPPDATA) return path.join(LOCALAPPDATA, 'foveate', 'cache');
  const home = homeDirectory();
  if (home === null) return null;
  return path.join(home, process.platform === 'darwin' ? 'Library/Caches' : '.cache', 'foveate');
}

function homeDirectory(): string | null {
  try {
    return homedir() || null;
  } catch {
    return null; // how uv_os_homedir says that there is none
  }
}
