export { createFastv, fastvDefaults } from './fastv.js';
export type { FastvOptions } from './fastv.js';
