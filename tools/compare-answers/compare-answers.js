#!/usr/bin/env node
/**
 * `node tools/compare-answers/compare-answers.js BEFORE AFTER`: whether two runs of `foveate ablate` gave the
 * same answers. A change that should change no result is shown to change none by a run of the commit before
 * it and one of the commit behind it, over all questions, with the same --reducers in the same order.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

/** What an answer is; times and memory are none of it. */
const PARTS = [
  ...['text', 'correct', 'inputTokens', 'outputTokens', 'stepTokens', 'equivalentTokens'],
  ...['kvBytes', 'cached', 'warnings'],
];

/** By question and place of the method in the table: how methods are written may have changed. */
function readAnswers(folder) {
  const { reducers } = JSON.parse(readFileSync(path.join(folder, 'run.json'), 'utf8'));
  const lines = readFileSync(path.join(folder, 'answers.jsonl'), 'utf8').split('\n').filter(Boolean);
  return new Map(
    lines.map((line) => {
      const answer = JSON.parse(line);
      const parts = PARTS.map((part) => [part, JSON.stringify(answer[part])]);
      return [`row ${reducers.indexOf(answer.reducer)}, question ${answer.id}`, parts];
    }),
  );
}

const [before, after] = process.argv.slice(2, 4).map(readAnswers);
const missing = [...before.keys()].filter((answer) => !after.has(answer));
const differences = [...before].flatMap(([answer, parts]) => {
  const other = new Map(after.get(answer) ?? parts);
  return parts
    .filter(([part, value]) => other.get(part) !== value)
    .map(([part, value]) => `${answer}: ${part} was ${value}, is ${other.get(part)}`);
});
for (const difference of differences.slice(0, 20)) console.log(difference);
console.log(
  `${before.size} answers before, ${after.size} after, ${missing.length} missing, ${differences.length} differences`,
);
process.exitCode = missing.length + differences.length > 0 || before.size !== after.size ? 1 : 0;
