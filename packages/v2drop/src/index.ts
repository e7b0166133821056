export { v2drop, v2dropEntry } from './v2drop.js';
export type { V2dropOptions } from './v2drop.js';
