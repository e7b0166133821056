export { scope, scopeEntry } from './scope.js';
export type { ScopeOptions } from './scope.js';
