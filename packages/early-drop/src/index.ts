export { earlyDrop, earlyDropEntry, type EarlyDropOptions } from './early-drop.js';
