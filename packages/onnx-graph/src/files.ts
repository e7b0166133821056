export { readModel } from './model-file.js';
