export { visionzip, visionzipEntry } from './visionzip.js';
export type { VisionzipOptions } from './visionzip.js';
