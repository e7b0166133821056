export { divprune, divpruneEntry } from './divprune.js';
export type { DivpruneOptions } from './divprune.js';
