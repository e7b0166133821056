export { fastv, fastvEntry } from './fastv.js';
export type { FastvOptions } from './fastv.js';
