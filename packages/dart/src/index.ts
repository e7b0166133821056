export { dart, dartEntry } from './dart.js';
export type { DartOptions } from './dart.js';
