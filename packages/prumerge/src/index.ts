export { prumerge, prumergeEntry, prumergePlus, prumergePlusEntry } from './prumerge.js';
export type { PrumergeOptions } from './prumerge.js';
