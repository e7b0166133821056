export { fopruRank, fopruRankEntry } from './fopru-rank.js';
export type { FopruRankOptions } from './fopru-rank.js';
