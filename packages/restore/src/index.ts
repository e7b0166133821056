export { restore, restoreModifier, type RestoreOptions } from './restore.js';
