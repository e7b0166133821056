export { vispruner, visprunerEntry } from './vispruner.js';
export type { VisprunerOptions } from './vispruner.js';
