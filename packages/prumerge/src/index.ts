export { createPrumerge, createPrumergePlus, prumergeDefaults } from './prumerge.js';
export type { PrumergeOptions } from './prumerge.js';
