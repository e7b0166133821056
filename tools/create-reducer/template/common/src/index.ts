export { myMethod, myMethodEntry } from './my-method.js';
export type { MyMethodOptions } from './my-method.js';
