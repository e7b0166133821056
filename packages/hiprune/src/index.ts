export { hiprune, hipruneEntry } from './hiprune.js';
export type { HipruneOptions } from './hiprune.js';
