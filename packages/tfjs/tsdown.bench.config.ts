export { benchmarks as default } from '../../tsdown.base.js';
