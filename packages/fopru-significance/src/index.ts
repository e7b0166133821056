export { chooseByVariance, significance, significanceRules, significanceSignals } from './significance.js';
export type { SignificanceRule } from './significance.js';
