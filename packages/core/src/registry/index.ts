export { createRegistry, modifierEntry, reducerEntry } from './registry.js';
export type {
  ModifierEntry,
  ModifierEntryInit,
  ReducerEntry,
  ReducerEntryInit,
  ReducerRegistry,
  TextOption,
} from './registry.js';
