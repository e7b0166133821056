export { tome, tomeEntry } from './tome.js';
export type { TomeOptions } from './tome.js';
