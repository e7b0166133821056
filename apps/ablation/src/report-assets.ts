/**
 * The report's style and script. This file lies where `../assets` is the same folder from src/ and from
 * dist/.
 */
import { readFileSync } from 'node:fs';

const read = (name: string): string => readFileSync(new URL(`../assets/${name}`, import.meta.url), 'utf8');

export const style: string = read('report.css');
export const script: string = read('report.js');
