export { createRegistry, reducerEntry } from './registry.js';
export type { ReducerEntry, ReducerEntryInit, ReducerRegistry, TextOption } from './registry.js';
