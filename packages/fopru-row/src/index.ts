export { fopruRow, fopruRowEntry } from './fopru-row.js';
export type { FopruRowOptions } from './fopru-row.js';
