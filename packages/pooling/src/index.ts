export { pooling, poolingEntry } from './pooling.js';
export type { PoolingOptions } from './pooling.js';
