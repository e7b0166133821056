export { cdpruner, cdprunerEntry } from './cdpruner.js';
export type { CdprunerOptions } from './cdpruner.js';
