export { restore, restoreEntry, type RestoreOptions } from './restore.js';
