import { fileURLToPath } from 'node:url';

/** The folder of the model: a bundle in the layout that transformers.js and `@foveate/lvlm` read. */
export const modelDirectory: string = fileURLToPath(new URL('../model', import.meta.url));

/** The held-out evaluation questions, one JSON object a line. */
export const questionsFile: string = fileURLToPath(new URL('../data/questions.jsonl', import.meta.url));

/** The PNG images that the questions name. */
export const imagesDirectory: string = fileURLToPath(new URL('../data/images', import.meta.url));
