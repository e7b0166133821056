export { random, randomEntry } from './random.js';
export type { RandomOptions } from './random.js';
export { uniform, uniformEntry } from './uniform.js';
export type { UniformOptions } from './uniform.js';
