#!/usr/bin/env node
/**
 * `npm run test:webgpu`, or `node tools/compare-devices/compare-devices.js --device cuda`: whether a device
 * answers questions of the embedded model as the processor does, with all visual tokens and with those that
 * FoPru keeps. With --software it is WebGPU on Chromium's SwiftShader, a Vulkan driver that needs no GPU:
 * right, and slow. Ends with 1 where a token or a kept set differs.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import chromium from '@sparticuz/chromium';
import { fopruRank } from '../../packages/fopru-rank/dist/index.js';
import { Lvlm } from '../../packages/lvlm/dist/index.js';
import { modelDirectory, questionsFile } from '../../packages/tiny-llava/dist/index.js';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'webgpu' },
    questions: { type: 'string', default: '50' },
    software: { type: 'boolean', default: false },
  },
});

if (values.software) await again();
else await compare();

/** Runs this again where the driver is found: what loads it looks at the environment as the process starts. */
async function again() {
  const folder = mkdtempSync(path.join(tmpdir(), 'foveate-swiftshader-'));
  try {
    process.env.TMPDIR = folder;
    await chromium.executablePath(); // unpacks the driver beside the program
    const driver = path.join(folder, 'vk_swiftshader_icd.json');
    const env = {
      ...process.env,
      VK_ICD_FILENAMES: driver,
      VK_DRIVER_FILES: driver,
      LD_LIBRARY_PATH: folder,
    };
    const args = ['--device', values.device, '--questions', values.questions];
    const { status } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...args], {
      stdio: 'inherit',
      env,
    });
    process.exitCode = status ?? 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function compare() {
  const device = /** @type {import('../../packages/lvlm/dist/index.js').Device} */ (values.device);
  const cpu = await Lvlm.load(modelDirectory);
  const other = await Lvlm.load(modelDirectory, { device });
  const rows = [
    { name: 'none', reducers: [] },
    { name: 'fopru-rank, 25 %', reducers: [fopruRank({ keepRatio: 0.25 })] },
  ].map((row) => ({ ...row, asked: 0, tokens: 0, kept: 0, cpuMs: 0, deviceMs: 0 }));
  /** @type {Set<string>} */
  const warnings = new Set();
  for (const [i, { image, question }] of questions(Number(values.questions)).entries()) {
    for (const row of rows) {
      const call = { images: [image], prompt: question, reducers: row.reducers, maxNewTokens: 16 };
      const [expected, actual] = [await cpu.generate(call), await other.generate(call)];
      row.asked++;
      row.tokens += equal(expected.tokenIds, actual.tokenIds);
      row.kept += equal(keptOf(expected), keptOf(actual));
      row.cpuMs += expected.timings.ttftMs;
      row.deviceMs += actual.timings.ttftMs;
      for (const warning of actual.warnings) warnings.add(warning);
    }
    const equals = rows.map(({ name, tokens, asked }) => `${name}: ${tokens} of ${asked} equal`);
    process.stderr.write(`${i + 1} of ${values.questions} questions, ${equals.join(', ')}\n`);
  }
  console.log(`Answers on ${device} beside those on the processor:`);
  console.table(
    rows.map(({ name, asked, tokens, kept, cpuMs, deviceMs }) => ({
      ...{ method: name, questions: asked, 'tokens equal': tokens, 'kept sets equal': kept },
      'TTFT ms, cpu': Math.round(cpuMs / asked),
      [`TTFT ms, ${device}`]: Math.round(deviceMs / asked),
    })),
  );
  for (const warning of warnings) console.log(`Warning: ${warning}`);
  for (const model of [cpu, other]) await model.dispose();
  if (rows.some(({ asked, tokens, kept }) => tokens < asked || kept < asked)) process.exitCode = 1;
}

/** So many of the shipped questions, spread over all of them. @param {number} count */
function questions(count) {
  const lines = readFileSync(questionsFile, 'utf8').trim().split('\n');
  return Array.from({ length: count }, (_, i) => {
    const { image, question } = JSON.parse(lines[Math.floor((i * lines.length) / count)]);
    return { image: path.join(path.dirname(questionsFile), image), question: String(question) };
  });
}

/** @param {import('../../packages/lvlm/dist/index.js').GenerateResult} result */
function keptOf({ images }) {
  return images.map(({ crops }) => crops.map(({ steps }) => steps.map(({ kept }) => kept)));
}

/** 1 or 0. @param {unknown} one @param {unknown} other */
function equal(one, other) {
  return JSON.stringify(one) === JSON.stringify(other) ? 1 : 0;
}
