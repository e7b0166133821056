export { createPooling, poolingDefaults } from './pooling.js';
export type { PoolingOptions } from './pooling.js';
export { createRandom, randomDefaults } from './random.js';
export type { RandomOptions } from './random.js';
export { createUniform, uniformDefaults } from './uniform.js';
export type { UniformOptions } from './uniform.js';
