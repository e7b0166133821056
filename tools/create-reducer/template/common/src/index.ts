export { createMyMethod, myMethodDefaults } from './my-method.js';
export type { MyMethodOptions } from './my-method.js';
